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
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import httpx
import pandas as pd
import psutil
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

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
        if not Path(self.python).exists():
            raise SystemExit(f"{code} has no .venv: call make setup there.")
        place = hashlib.sha256(bytes(code)).hexdigest()[:8]
        self.folder = CACHE / "projects" / f"{code.name}-{place}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_DECIDING)}
        self.environment = kept | {
            "PATH": os.pathsep.join([str(code / ".venv/bin"), kept.get("PATH", os.defpath)]),
            "MLOPS_PROJECT_PATH": str(self.folder),
            "DO_NOT_TRACK": "true",
        }
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
        done = self.folder / f"deployed-{env}"
        if not done.exists():
            print(f"{self.name}: training and deploying {env} …", flush=True)
            self.kedro("run", "--env", env)
            done.touch()

    def serve(self, contract: str, **variables: str) -> "Server":
        """Start the API with one worker."""
        port = free_port()
        command = [self.python, "-m", "mlops_for_mle.serving", "--port", str(port)]
        environment = self.environment | {"MLOPS_MODEL": contract} | variables
        return Server(command, environment, self.folder, port)

    def sql(self, statement: str, **values: Any) -> Any:
        """Run a statement; gives the first value of its first row, if it has any."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), values)
            return result.scalar() if result.returns_rows else None

    def wait_for_rows(self, table: str, rows: int) -> int:
        """Wait until a table has so many; gives how many it has then."""
        for _ in range(4_500):
            if (found := self.sql(f"SELECT count(*) FROM {table}")) >= rows:
                return int(found)
            time.sleep(0.2)
        raise TimeoutError(f"{table} has {found} of {rows} rows")

    @cached_property
    def engine(self) -> Engine:
        """Of its database, which must have been started."""
        url = self.kedro("db", "url").output.split()[-1]
        driven = make_url(url).set(drivername="postgresql+psycopg2")
        return create_engine(driven, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def _make_project(self, code: Path) -> None:
        """Copy the configuration, unless the project that is there is of the same sources."""
        files = sorted([*code.glob("src/**/*.py"), *code.glob("conf/*/*.yml")])
        sources = b"".join(file.read_bytes() for file in files if file.parent.name != "local")
        digest, stamp = hashlib.sha256(sources).hexdigest(), self.folder / "sources"
        if stamp.exists() and stamp.read_text() == digest:
            return
        if (self.folder / "data/postgres").exists():
            self.kedro("db", "destroy", "--yes")
        shutil.rmtree(self.folder, ignore_errors=True)
        local = shutil.ignore_patterns("local")
        shutil.copytree(code / "conf", self.folder / "conf", ignore=local)
        # Kedro insists on the first two; the environment iris changes nothing of the base.
        for folder in ("conf/local", "src", "conf/iris", "data/01_raw"):
            (self.folder / folder).mkdir(parents=True)
        for name in ("pyproject.toml", "data/01_raw/subscriptions.csv"):
            shutil.copy(code / name, self.folder / name)
        stamp.write_text(digest)


class Server:
    """A process that listens, with all that it has started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, port: int
    ) -> None:
        self.address, self.begun = f"http://127.0.0.1:{port}", time.perf_counter()
        self._client = httpx.Client(base_url=self.address, timeout=60, trust_env=False)
        self._log = folder / "server.log"
        self._process = _start(command, environment, self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it and all that it has started."""
        members = self._members()
        with suppress(psutil.NoSuchProcess):
            self._process.terminate()
        for process in psutil.wait_procs(members, timeout=20)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON that it answers to a body, or to a GET; raises `OSError` with its refusal."""
        answer = self._client.request("POST" if body else "GET", path, json=body)
        if answer.is_error:
            raise OSError(f"{path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def wait_until_answering(self, path: str, body: Any = None, rest: float = 0.1) -> Any:
        """The first good answer; raises `OSError` with its last words if it ends before."""
        while time.perf_counter() < self.begun + 180 and self._process.poll() is None:
            with suppress(OSError, httpx.TransportError):
                return self.ask(path, body)
            time.sleep(rest)
        words = self._log.read_text("utf-8", "replace").splitlines()[-3:]
        raise OSError(f"does not answer: {' | '.join(words)}")

    def processor_seconds(self) -> float:
        """Processor time, user and system, of all its processes until now."""
        return sum(sum(process.cpu_times()[:2]) for process in self._members())

    def resident_mib(self) -> float:
        """Resident memory; what processes share counts for each."""
        return sum(process.memory_info().rss for process in self._members()) / 2**20

    def _members(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> psutil.Popen:
    with log.open("wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        return psutil.Popen(command, cwd=log.parent, env=environment, **streams)


# By how much this checkout may be slower than another one: what the noise of machines comes to.
NOISE = 1.1


class Case(NamedTuple):
    """What each checkout does once a round, with so many rows."""

    title: str
    rows: int
    measure: Callable[[Checkout], Run]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all have."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--rounds", type=int, default=5, help="default: 5")
    made.add_argument("--against", type=Path, help="another checkout with its own .venv")
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


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios within each round, which sees both on the same machine."""
    return median(one / other for one, other in zip(ones, others, strict=True))


def main(
    doc: str | None,
    rows: Mapping[str, int],
    make_cases: Callable[[list[Checkout], argparse.Namespace], list[Case]],
) -> None:
    """Measure and print cases, of which the first is the start that the others have in common.

    `rows` are options for numbers of rows, with defaults; `make_cases` prepares the checkouts.
    """
    command = parser(doc)
    for option, default in rows.items():
        command.add_argument(option, type=int, default=default, help=f"default: {default:,}")
    options = command.parse_args()
    with checkouts(options.against) as sides:
        cases = make_cases(sides, options)
        pairs = product(cases, sides)
        ways = {(one.title, side.name): partial(one.measure, side) for one, side in pairs}
        runs = interleave(options.rounds, ways, lambda run: f"{run.seconds:.2f} s")
    table, fits = {}, True
    for title, rows_of_case, _ in cases:
        for side in sides:
            seconds, processor, _ = zip(*runs[title, side.name], strict=True)
            starts = [run.seconds for run in runs[cases[0].title, side.name]]
            beyond = median(one - start for one, start in zip(seconds, starts, strict=True))
            table[title, side.name] = {
                "seconds": median(seconds),
                "beyond start": beyond,
                "rows/s": rows_of_case / beyond if beyond > 0 else None,
                "processor s": median(processor),
            }
        if len(sides) > 1:
            this, other = ([*zip(*runs[title, side.name], strict=True)] for side in sides)
            times = ratio(this[0], other[0])
            table[title, "this : other"] = {
                "seconds": times,
                "processor s": ratio(this[1], other[1]),
            }
            fits = fits and times <= NOISE
    print(f"\n{pd.DataFrame(table).T.to_string(float_format='{:,.2f}'.format, na_rep='')}")
    print(f"Medians of {options.rounds} interleaved rounds; rows/s in the time beyond the start.")
    sys.exit(int(options.check and not fits))
