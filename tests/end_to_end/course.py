"""Runs the chapters of the course: what they tell to type must show what they say it shows."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Thread

from tests.end_to_end.api import served
from tests.end_to_end.commands import Project

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


# Stands for `kedro` in the blocks, and has the test run the command without its imports.
SHIM = """#!{python} -I
import os, sys
from multiprocessing.connection import Client
with Client({address!r}) as test:
    test.send((sys.argv[1:], os.getcwd(), dict(os.environ)))
    code, output, errors = test.recv()
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(code)
"""


@contextmanager
def shim(folder: Path) -> Iterator[Path]:
    """A folder for the beginning of PATH, whose `kedro` starts fast."""

    def answer() -> None:
        while True:
            with listener.accept() as client:
                arguments, cwd, environment = client.recv()
                if arguments is None:
                    return
                finished = Project(Path(cwd), environment).kedro(*arguments)
                client.send((finished.code, finished.output, finished.errors))

    with Listener(str(folder / "socket")) as listener:
        program = folder / "kedro"
        program.write_text(SHIM.format(python=sys.executable, address=listener.address))
        program.chmod(0o755)
        answering = Thread(target=answer)
        answering.start()
        yield folder
        with Client(listener.address) as client:
            client.send((None, None, None))
        answering.join()


def run_chapter(chapter: Path, project: Project, programs: Path, port: int) -> None:
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
                assert block.text == "kedro serve\n"
                servers.enter_context(served(project, "--port", str(port)))
                continue
            finished = _run(commands, project, programs)
            assert (finished.returncode != 0) == block.kind.endswith("fails"), finished.stdout
            assert "Traceback" not in finished.stdout, finished.stdout
            output = finished.stdout


def _run(commands: str, project: Project, programs: Path) -> subprocess.CompletedProcess[str]:
    environment = project.environment
    path = [str(programs), str(Path(sys.executable).parent), environment["PATH"]]
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=project.folder,
        env=environment | {"PATH": ":".join(path)},
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
