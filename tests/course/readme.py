"""Runs pages of the course: what they tell to type must show what they say it shows."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from course.conftest import Program
from tests.end_to_end.commands import Project
from tests.end_to_end.shim import shim
from tests.servers import status_of

# The pauses of a page are those of an idle machine.
PAUSE = 'sleep() { command sleep "$((3 * $1))"; }'


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: commands, what they show (``text``), or what no test can run."""
    return re.findall(r"^```(.+?)\n(.*?)^```$", page, re.M | re.S)


def missing_lines(shown: str, output: str) -> list[str]:
    """The lines that a page shows and the output lacks; ``…`` stands for anything."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    missing = []
    for wanted in filter(None, (" ".join(line.split()) for line in shown.splitlines())):
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("…")))
        if not any(pattern.search(line) for line in lines):
            missing.append(wanted)
    return missing


class Terminal:
    """A shell whose folder and variables last from one block to the next.

    Args:
        folder: Where it begins.
        project: Gives its environment.
        ports: The ports that pages name, and those that are free to be used instead.
    """

    def __init__(self, folder: Path, project: Project, ports: Mapping[int, int]) -> None:
        self._folder = folder
        self._ports = {str(named): str(free) for named, free in ports.items()}
        variables = project.environment
        programs = str(Path(sys.executable).parent)
        self._environment = {
            **variables,
            "PATH": f"{programs}:{variables['PATH']}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self._state = project.folder / f"terminal-{id(self)}.sh"
        self._state.write_text("")

    def run_page(self, page: str) -> None:
        """Run the blocks of a page in order, and compare what they show.

        Raises:
            AssertionError: A command fails, or shows something else.
        """
        output = ""
        with shim() as programs, ExitStack() as servers:
            for kind, text in blocks(page):
                if kind == "text":
                    assert not missing_lines(text, output), f"{text}\nnot in\n{output}"
                elif kind.startswith("bash server"):
                    port = re.sub(r"\D", "", kind) or "8000"
                    servers.enter_context(self._served(text, self._ports.get(port, port)))
                elif kind in {"bash", "bash fails"}:
                    finished = self._run(text, programs)
                    assert (finished.returncode != 0) == (kind == "bash fails"), finished.stdout
                    assert "Traceback" not in finished.stdout, finished.stdout
                    output = finished.stdout

    def _run(self, commands: str, programs: Path) -> subprocess.CompletedProcess[str]:
        # What waits for nobody needs no process of its own to begin with.
        commands = re.sub(
            r"^((?:\w+=\S+ )*)python (?=-c |[\w/]+\.py\b[^&]*$)",
            r"\1python-here ",
            commands,
            flags=re.M,
        )
        # A server is started by the real program, so this path is not kept.
        commands = f"PATH={programs}:$PATH\n{commands}\nPATH=${{PATH#{programs}:}}"
        keep = '{ export -p; printf "cd %q\\n" "$PWD"; }'
        return subprocess.run(
            ["bash", "-c", f"{self._script(commands)}\n{keep} > {self._state}"],
            cwd=self._folder,
            env=self._environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )

    @contextmanager
    def _served(self, commands: str, port: str) -> Iterator[None]:
        """A server that runs until the page ends, and must then end in order."""
        command = ["bash", "-c", self._script(f"exec {commands}")]
        log = self._state.with_suffix(f".{port}.log")
        server = Program(command, self._folder, log, self._environment)
        ready = f"http://localhost:{port}/health/ready"
        try:
            # A server that does not know this route is as ready as it will be.
            server.until(lambda: status_of(ready) in {200, 404}, 90)
            yield
        finally:
            server.stop()
            code = server.ends(90)
        # uvicorn ends in order and then by the signal itself, unless the program has its own way.
        by_itself = "uvicorn" in commands or "python" in commands
        assert code in ({0, -signal.SIGTERM} if by_itself else {0, 128 + signal.SIGTERM})

    def _script(self, commands: str) -> str:
        for named, free in self._ports.items():
            commands = re.sub(rf"\b{named}\b", free, commands)
        return f". {self._state}\nset -euo pipefail\n{PAUSE}\n{commands}"
