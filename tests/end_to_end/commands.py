"""Runs the project's commands as processes, and looks at what they leave behind."""

import atexit
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psutil import process_iter

from mlops_for_mle.database import embedded
from mlops_for_mle.settings import ENVIRONMENT
from tests import PROJECT
from tests.servers import eventually, query

CONTEXT = multiprocessing.get_context("forkserver")
STREAMS = ("input", "output", "errors")

# What would decide where the project keeps its data, if the caller's environment had it.
DECIDING = ("DATABASE_URL", "MLFLOW_TRACKING_URI", "KEDRO_ENV", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """All that it said."""
        return f"{self.output}\n{self.errors}"


@dataclass
class Project:
    """A throw-away project and the environment in which its commands run."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where its embedded server would be."""
        return self.folder / "data/postgres"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in DECIDING and not name.startswith("MLOPS_")
        }
        return {**inherited, "MLOPS_PROJECT_PATH": str(self.folder), **self.variables}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kedro` as from a shell."""
        return subprocess.Popen(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, *arguments: str) -> "Begun":
        """Start `kedro` in a process that need not import everything again."""
        return begin(self.folder, self.environment, "kedro", *arguments)

    def kedro(self, *arguments: str) -> Finished:
        """Run `kedro` to its end in such a process."""
        return self.begin(*arguments).finish()

    def succeed(self, *arguments: str) -> Finished:
        """Run `kedro`, which must do what it is told, calmly."""
        finished = self.kedro(*arguments)
        assert finished.code == 0, finished.text
        assert "Traceback" not in finished.text
        assert "Warning:" not in finished.text, finished.text
        return finished

    def refuse(self, *arguments: str) -> str:
        """Run `kedro`, which must refuse, and give what a person sees: one error and no more."""
        finished = self.kedro(*arguments)
        assert finished.code == 1, finished.text
        assert "Traceback" not in finished.text
        told = [line for line in finished.errors.splitlines() if "ERROR" in line]
        assert not told, finished.text
        _, *said = re.split("^Error: ", finished.errors, flags=re.MULTILINE)
        assert len(said) == 1, finished.text
        return said[0].rstrip()

    def query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Ask its database, starting the server for the moment if it is not running."""
        with self.held() as url:
            return query(url, statement, **values)

    @contextmanager
    def held(self) -> Iterator[str]:
        """Keep the embedded server running by a process beside this one; gives the URL."""
        ours, theirs = CONTEXT.Pipe()
        holder = CONTEXT.Process(target=_hold, args=(self.home, theirs), daemon=True)
        start_forked(holder)
        theirs.close()
        try:
            yield ours.recv()
        finally:
            ours.close()
            holder.join(90)

    def is_running(self) -> bool:
        """Whether its embedded server takes connections."""
        return embedded.find(self.home) is not None

    def url_without_lease(self) -> str:
        """The URL of the running server; connecting to it does not keep it running."""
        server = embedded.find(self.home)
        assert server is not None
        return server.url("mlops")

    def leaves_nothing_running(self) -> bool:
        """Whether, within some seconds, no process is left that has to do with its folder."""
        return eventually(lambda: not self.processes())

    def processes(self) -> list[str]:
        """The running processes whose command line names its folder, or its cluster's."""
        places = {str(self.folder), str((self.home / "pgdata").resolve())}
        running = (" ".join(one.info["cmdline"] or ()) for one in process_iter(["cmdline"]))
        return [line for line in running if any(place in line for place in places)]


@dataclass(frozen=True)
class Begun:
    """A command in a process that was forked from one that has imported everything."""

    process: ForkServerProcess
    streams: "TemporaryDirectory[str]"

    def finish(self, seconds: float = 600) -> Finished:
        """Wait for the end of the command."""
        with self.streams as folder:
            self.process.join(seconds)
            said = [Path(folder, name).read_text("utf-8") for name in STREAMS[1:]]
            if self.process.exitcode is None:
                self.process.kill()
                raise AssertionError(f"no end after {seconds} s: {said}")
            return Finished(self.process.exitcode, *said)


def begin(folder: Path, environment: dict[str, str], *command: str, given: str = "") -> Begun:
    """Start a module or a file with its arguments, or code after ``-c``, as `python` would."""
    streams = TemporaryDirectory()
    files = [Path(streams.name, name) for name in STREAMS]
    files[0].write_text(given)
    process = CONTEXT.Process(target=_become, args=(folder, environment, command, files))
    start_forked(process)
    return Begun(process, streams)


def fork(folder: Path, environment: dict[str, str], *command: str, given: str = "") -> Finished:
    """Run such a command to its end."""
    return begin(folder, environment, *command, given=given).finish()


def start_forked(process: ForkServerProcess) -> None:
    """Start it from a process that has imported everything."""
    CONTEXT.set_forkserver_preload(["tests.end_to_end.preloaded"])
    # Kedro takes the settings of logging from where it is imported.
    with chdir(PROJECT):
        process.start()


def _become(
    folder: Path, environment: dict[str, str], command: tuple[str, ...], files: list[Path]
) -> None:
    """Make this process what a shell would have made for the command.

    It ends as Python does but for freeing objects, so that a file which nobody has closed is not
    flushed.
    """
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.environ.clear()
    # As the import of the settings does, which are imported here.
    os.environ.update(ENVIRONMENT | environment)
    os.chdir(folder)
    # Where a shell has put the tests into the background, it would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = list(command)
    try:
        if command[0] == "-c":
            sys.argv = ["-c", *command[2:]]
            sys.path.insert(0, "")
            exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
        elif command[0].endswith(".py"):
            sys.path.insert(0, str(Path(command[0]).resolve().parent))
            runpy.run_path(command[0], run_name="__main__")
        else:
            sys.path.insert(0, str(folder))
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def _hold(home: Path, answers: Connection) -> None:
    answers.send(embedded.acquire(home).url("mlops"))
    # Until the other end is closed.
    answers.poll(None)


def finish(process: subprocess.Popen[str], seconds: float = 600) -> Finished:
    """Wait for the end of a command."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"no end after {seconds} s:\n{output}\n{errors}") from None
    return Finished(process.returncode, output, errors)
