"""Runs the chapters of the course: what they tell to type must show what they say it shows."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.end_to_end.commands import Project
from tests.integration.servers import eventually

COURSE = Path(__file__).parents[2] / "docs" / "course"
RUN = {"bash", "bash server", "bash fails"}


@dataclass(frozen=True)
class Block:
    """A fenced block: commands to run, what they show (``text``), or what a test cannot run."""

    kind: str
    text: str


def chapters() -> list[Path]:
    """The English chapters in their order."""
    return sorted(COURSE.glob("*-*[!o].md"), key=lambda path: int(path.name.split("-")[0]))


def blocks(chapter: Path) -> list[Block]:
    """The fenced blocks of a chapter."""
    found = re.findall(r"^```(.+?)\n(.*?)^```$", chapter.read_text("utf-8"), re.M | re.S)
    return [Block(kind, text) for kind, text in found]


def missing_lines(shown: str, output: str) -> list[str]:
    """The lines that a chapter shows and the output lacks; ``…`` stands for anything."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    missing = []
    for wanted in filter(None, (" ".join(line.split()) for line in shown.splitlines())):
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("…")))
        if not any(pattern.search(line) for line in lines):
            missing.append(wanted)
    return missing


def run_chapter(chapter: Path, project: Project, port: int) -> None:
    """Run the blocks of a chapter in order, and compare what they show.

    Raises:
        AssertionError: A command fails, or shows something else.
    """
    output = ""
    with ExitStack() as servers:
        for block in blocks(chapter):
            if block.kind == "text":
                assert not missing_lines(block.text, output), f"{block.text}\nnot in\n{output}"
            if block.kind not in RUN:
                continue
            commands = block.text.replace("localhost:8000", f"localhost:{port}")
            if block.kind == "bash server":
                servers.enter_context(_served(commands, project, port))
                continue
            finished = _run(commands, project)
            assert (finished.returncode != 0) == block.kind.endswith("fails"), finished.stdout
            assert "Traceback" not in finished.stdout, finished.stdout
            output = finished.stdout


def _run(commands: str, project: Project) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=project.folder,
        env=_environment(project),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@contextmanager
def _served(commands: str, project: Project, port: int) -> Iterator[None]:
    """A server that runs until the chapter ends, and must then end in order."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {commands}"],
        cwd=project.folder,
        env=_environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: _is_ready(port) or process.poll() is not None, 60)
        assert process.poll() is None
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
    assert code == 0


def _environment(project: Project) -> dict[str, str]:
    variables = project.environment
    programs = str(Path(sys.executable).parent)
    return {**variables, "PATH": f"{programs}:{variables['PATH']}"}


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://localhost:{port}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
