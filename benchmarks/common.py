"""What all benchmarks share: checkouts of the project, interleaved rounds, ratios, options.

A checkout is measured in a project of its own below `.cache`: its configuration is copied there,
its code runs from its own `.venv`, its database is the embedded one. Nothing of the project is
imported, so that versions that are built differently can be compared: everything goes through
commands, HTTP and SQL.
"""

import argparse
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import httpx
import psycopg2

PROJECT = Path(__file__).resolve().parents[1]
CACHE = PROJECT / "benchmarks/.cache"

# What would move a benchmark's data somewhere else, if a person's shell had it.
_DECIDING = ("DATABASE_URL", "MLFLOW_", "MLOPS_", "KEDRO_ENV", "PYTHONDONTWRITEBYTECODE")


class Run(NamedTuple):
    """A command that has ended well: time, its processor time, what it said."""

    seconds: float
    processor: float
    output: str


class Checkout:
    """The code of one checkout, in a project of its own."""

    def __init__(self, code: Path, name: str) -> None:
        code = code.resolve()
        self.name = name
        self.python = str(code / ".venv/bin/python")
        files = sorted([*code.glob("src/**/*.py"), *code.glob("conf/*/*.yml")])
        sources = b"".join(file.read_bytes() for file in files if file.parent.name != "local")
        digest = hashlib.sha256(bytes(code) + sources).hexdigest()[:8]
        self.folder = CACHE / "projects" / f"{code.name}-{digest}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_DECIDING)}
        self.environment = kept | {
            "PATH": os.pathsep.join([str(code / ".venv/bin"), kept.get("PATH", os.defpath)]),
            "MLOPS_PROJECT_PATH": str(self.folder),
            "DO_NOT_TRACK": "true",
        }
        # Its last file is that which Kedro looks for.
        if not (self.folder / "pyproject.toml").exists():
            self._make_project(code)

    def kedro(self, *arguments: str) -> Run:
        """Run a command of the project to its end."""
        return self.run(self.python, "-m", "kedro", *arguments)

    def run(self, *command: str) -> Run:
        """Run any command in the project's folder to its end."""
        begin, log = time.perf_counter(), self.folder / "command.log"
        _, status, usage = os.wait4(_start(command, self.environment, log).pid, 0)
        seconds, said = time.perf_counter() - begin, log.read_text("utf-8", "replace")
        if status:
            raise SystemExit(f"{self.name}: {' '.join(command)} failed:\n{said[-3000:]}")
        return Run(seconds, usage.ru_utime + usage.ru_stime, said)

    def deploy(self, env: str) -> None:
        """Train and deploy the model of an environment, unless that was done before."""
        if not (self.folder / "data/releases" / env).exists():
            print(f"{self.name}: training and deploying {env} …", flush=True)
            self.kedro("run", "--env", env)

    def serve(self, contract: str, **variables: str) -> "Server":
        """Start the API with one worker."""
        port = free_port()
        command = [self.python, "-m", "mlops_for_mle.serving", "--port", str(port)]
        environment = self.environment | {"MLOPS_MODEL": contract} | variables
        return Server(command, environment, self.folder, port)

    def sql(self, statement: str, **values: Any) -> Any:
        """Run a statement; gives the first value of its first row, if it has any."""
        with self._database.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchone()[0] if cursor.description else None

    def wait_for_rows(self, table: str, rows: int) -> int:
        """Wait until a table has so many; gives how many it has then."""
        for _ in range(4_500):
            if (found := self.sql(f"SELECT count(*) FROM {table}")) >= rows:
                return int(found)
            time.sleep(0.2)
        raise TimeoutError(f"{table} has {found} of {rows} rows")

    @cached_property
    def _database(self) -> Any:
        # The server must have been started.
        connection = psycopg2.connect(self.kedro("db", "url").output.split()[-1])
        connection.autocommit = True
        return connection

    def _make_project(self, code: Path) -> None:
        """Copy the configuration; other sources have a project of their own."""
        shutil.rmtree(self.folder, ignore_errors=True)
        local = shutil.ignore_patterns("local")
        shutil.copytree(code / "conf", self.folder / "conf", ignore=local)
        # Kedro insists on the first two; the environment iris changes nothing of the base.
        for folder in ("conf/local", "src", "conf/iris", "data/01_raw"):
            (self.folder / folder).mkdir(parents=True)
        for name in ("data/01_raw/subscriptions.csv", "pyproject.toml"):
            shutil.copy(code / name, self.folder / name)


class Server:
    """A process that listens, with all that it has started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, port: int
    ) -> None:
        self.address, self.begun = f"http://127.0.0.1:{port}", time.perf_counter()
        self._client = httpx.Client(base_url=self.address, timeout=60, trust_env=False)
        self._log = folder / "server.log"
        self.process = _start(command, environment, self._log, start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it and all that it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.process.pid, number)
                self.process.wait(20)

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON that it answers to a body, or to a GET; raises `OSError` with its refusal."""
        answer = self._client.request("POST" if body else "GET", path, json=body)
        if answer.is_error:
            raise OSError(f"{path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def wait_until_answering(self, path: str, body: Any = None, rest: float = 0.1) -> Any:
        """The first good answer; raises `OSError` with its last words if it ends before."""
        while time.perf_counter() < self.begun + 180 and self.process.poll() is None:
            with suppress(OSError, httpx.TransportError):
                return self.ask(path, body)
            time.sleep(rest)
        words = self._log.read_text("utf-8", "replace").splitlines()[-3:]
        raise OSError(f"does not answer: {' | '.join(words)}")


@contextmanager
def checkouts(against: Path | None) -> Iterator[list[Checkout]]:
    """This checkout and, if it is given, the other one, with their databases running."""
    # So that whatever was started is ended, too, when this process is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    CACHE.mkdir(exist_ok=True)
    places = [(PROJECT, "this")] + ([(against, "other")] if against else [])
    sides = [Checkout(code, name) for code, name in places]
    try:
        for side in sides:
            side.kedro("db", "start")
        yield sides
    finally:
        for side in sides:
            side.kedro("db", "stop")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _start(
    command: Sequence[str], environment: Mapping[str, str], log: Path, **options: Any
) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=log.parent, env=environment, **streams, **options)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all have."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=5, help="default: 5")
    made.add_argument("--check", action="store_true", help="exit status 1 if a gate is missed")
    return made


def interleave(rounds: int, ways: Mapping[Any, Any], tell: Callable[[Any], str]) -> Any:
    """Measure all ways once a round, in turn, so that a noisy machine disturbs them alike.

    Every other round goes backwards. Round 0 fills caches and is not counted. Gives a list by way.
    """
    found: dict[Any, list[Any]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in ways if number % 2 else reversed(list(ways)):
            one = ways[name]()
            print(f"  round {number}  {', '.join(name)}: {tell(one)}", flush=True)
            if number:
                found[name].append(one)
    return found


def ratio(ones: Sequence[Any], others: Sequence[Any], what: str) -> float:
    """The median of the ratios within each round, which sees both on the same machine."""
    pairs = zip(ones, others, strict=True)
    return median(getattr(one, what) / getattr(other, what) for one, other in pairs)
