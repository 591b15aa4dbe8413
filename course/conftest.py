"""What the checks of all parts share: the learner's programs, and real servers for them."""

import importlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from course.hints import explain, hint, say, within
from course.part import lay, part
from tests import servers
from tests.relay import Relay
from tests.servers import DatabaseServer, eventually

WORK = pytest.StashKey[Path]()
# How long one check may take, in seconds, before it counts as one that never ends.
PATIENCE = 120
# What of the learner's terminal would decide where a program under check writes.
DECIDING = ("DATABASE_URL", "MLFLOW_", "MLOPS_", "AWS_", "KAFKA_", "KEDRO_ENV")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("course")
    group.addoption("--part", required=True, help="The number of the part.")
    group.addoption("--solution", action="store_true", help="Check the solution.")
    group.addoption("--work", type=Path, help="Check this folder instead of work/partN.")
    group.addoption("--server", help="The URL of a running PostgreSQL; else one is started.")


def pytest_configure(config: pytest.Config) -> None:
    number = config.getoption("part")
    work = (config.getoption("work") or Path("work", f"part{number}")).resolve()
    if config.getoption("solution"):
        work = servers.reachable_folder("course-") / "solution"
        lay(work, part(number), solved=True)
        config.add_cleanup(lambda: shutil.rmtree(work.parent))
    if not work.is_dir():
        raise pytest.UsageError(f"make part PART={number}")
    config.stash[WORK] = work
    sys.path.insert(0, str(work))
    sys.dont_write_bytecode = True
    config.pluginmanager.register(Report(work))


class Report:
    """Says of each check whether it passed, and of one that did not, what to look at."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._passed = self._failed = 0
        self._said: list[str] = []
        self._is_read = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        title = item.name.removeprefix("test_").replace("_", " ")
        if call.excinfo is not None:
            self._failed += 1
            self._tell(f"✗ {title}")
            lines = explain(call.excinfo.value, self._work)
            # A step that is still to be written is named once, not by every check that needs it.
            if lines != self._said:
                self._tell(*(f"    {line}" for line in lines))
            self._said = lines
        elif call.when == "call":
            self._passed += 1
            self._tell(f"✓ {title}")
        if not self._is_read:
            # `make check | head` has read enough; what the checks have started still ends in order.
            item.session.shouldstop = "nobody reads on"
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        with within(PATIENCE):
            return (yield)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell(str(report.longrepr))

    def pytest_sessionfinish(self) -> None:
        count = self._passed + self._failed
        passed = self._passed
        self._tell(say(f"{passed} of {count} pass.", f"{count}개 중 {passed}개를 통과했습니다."))

    def _tell(self, *lines: str) -> None:
        try:
            print(*lines, sep="\n", flush=True)
        except BrokenPipeError:
            self._is_read = False


@pytest.fixture(scope="session")
def work(pytestconfig: pytest.Config) -> Path:
    """The folder that is checked."""
    return pytestconfig.stash[WORK]


@pytest.fixture
def services(work: Path) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, in Compose's short forms whichever the learner has chosen."""
    with hint(
        "compose.yaml must be YAML, with the services below `services:`.",
        "compose.yaml은 YAML이어야 하고, 서비스는 `services:` 아래에 있어야 합니다.",
    ):
        found = yaml.safe_load((work / "compose.yaml").read_text("utf-8"))["services"]
        return {name: in_short_forms(service) for name, service in found.items()}


@pytest.fixture
def dockerfile(work: Path) -> str:
    """The text of Dockerfile, and of the requirements that it installs from a file."""
    with hint("Write Dockerfile beside the programs.", "프로그램 옆에 Dockerfile을 작성하십시오."):
        text = (work / "Dockerfile").read_text("utf-8")
    listed = work / "requirements.txt"
    return text + listed.read_text("utf-8") if listed.name in text and listed.exists() else text


def in_short_forms(service: dict[str, Any]) -> dict[str, Any]:
    """One form for the settings of a service that Compose takes in two."""
    variables, waits = service.get("environment") or {}, service.get("depends_on") or {}
    if isinstance(variables, list):
        variables = dict(one.partition("=")[::2] for one in variables)
    if isinstance(waits, list):
        waits = {name: {"condition": "service_started"} for name in waits}
    ports = [
        "{host_ip}:{published}:{target}".format_map({"host_ip": "0.0.0.0", **one})
        if isinstance(one, dict)
        else str(one)
        for one in service.get("ports") or []
    ]
    volumes = [
        f"{one['source']}:{one['target']}{':ro' if one.get('read_only') else ''}"
        if isinstance(one, dict)
        else one
        for one in service.get("volumes") or []
    ]
    short = {"environment": variables, "depends_on": waits, "ports": ports, "volumes": volumes}
    return {**service, **short}


def not_copied(dockerfile: str, *names: str) -> list[str]:
    """Those of the files that no COPY brings into the image."""
    lines = re.findall(r"^COPY\s+(.+)$", dockerfile.replace("\\\n", " "), re.M)
    sources = [re.sub(r'^\./|[][",]', "", one) for line in lines for one in line.split()[:-1]]
    patterns = ["*" if one in {"", "."} else one for one in sources]
    return [name for name in names if not any(fnmatch(name, one) for one in patterns)]


class Learner:
    """The learner's own modules: ``learner.generator`` imports ``generator.py``."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@pytest.fixture
def learner() -> Learner:
    return Learner()


@pytest.fixture
def typed(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Does what ``python gate.py`` does, but within this process, which has imported it all."""

    def run(name: str, *arguments: str, **variables: str) -> None:
        monkeypatch.chdir(work)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        run_as_typed(work / name)

    return run


def run_as_typed(path: Path) -> None:
    """Run a program; its end is an error where its status is one."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


class Program:
    """A program of the learner that runs as a process of its own."""

    def __init__(self, command: list[str], folder: Path, log: Path, variables: dict[str, str]):
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has said so far, on both streams."""
        return self._log.read_text("utf-8", errors="replace")

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> None:
        """Wait until something is true while the program runs."""

        def is_over() -> bool:
            return bool(condition()) or self.process.poll() is not None

        assert eventually(is_over, seconds), f"{seconds:g} s: {self._last_line()}"
        assert condition(), self._last_line()

    def ends(self, seconds: float = 60) -> int:
        """Wait for its end; gives the exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{seconds:g} s: {self._last_line()}") from None

    def succeeds(self, seconds: float = 60) -> str:
        """Wait for its end, which must be a good one; gives what it said."""
        status = self.ends(seconds)
        assert status == 0, f"exit status {status}: {self._last_line()}"
        return self.output

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to it: SIGTERM as `docker stop`, SIGINT as Ctrl-C, or SIGKILL."""
        self.process.send_signal(number)

    def remove(self) -> None:
        """Kill it, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _last_line(self) -> str:
        """The error that it ended with, or else what it has said last."""
        _, found, after = self.output.rpartition("Traceback (most recent call last):\n")
        told = [line for line in after.splitlines() if line.strip() and line[0] != " "]
        return next(iter(told), "") if found else (told or [""])[-1]


@pytest.fixture
def program(work: Path, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts a file of the learner: ``program("generator.py", "--once", DATABASE_URL=...)``."""
    started: list[Program] = []

    def start(name: str, *arguments: str, **variables: str) -> Program:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(DECIDING)}
        environment = {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **variables}
        command = [sys.executable, name, *arguments]
        started.append(Program(command, work, tmp_path / f"{len(started)}.log", environment))
        return started[-1]

    yield start
    for one in started:
        one.remove()


@pytest.fixture
def port() -> int:
    """A TCP port that nobody listens on."""
    return servers.free_port()


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[DatabaseServer]:
    """A real PostgreSQL."""
    url = pytestconfig.getoption("server")
    if url:
        yield DatabaseServer(url)
        return
    from mlops_for_mle.database import embedded

    home = servers.reachable_folder("course-server-") / "postgres"
    yield DatabaseServer(embedded.acquire(home).url("mlops"))
    embedded.destroy(home)
    shutil.rmtree(home.parent)


class Database:
    """An empty database, reached over a network that can be cut."""

    def __init__(self, url: str) -> None:
        self._direct = make_url(url)
        self._relay = Relay(self._direct.port or 5432)
        through = self._direct.set(drivername="postgresql", port=self._relay.port)
        self.url = through.render_as_string(hide_password=False)
        # A transaction that the learner has left open ends a check with a hint, and not never.
        self.query(f"ALTER DATABASE \"{self._direct.database}\" SET lock_timeout = '5s'")
        self.cut, self.mend, self.close = self._relay.cut, self._relay.mend, self._relay.close

    def query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, beside the network; ``:name`` stands for a value."""
        return servers.query(self._direct, statement, **values)

    def count(self, table: str) -> int:
        """How many rows are committed; none where there is no table."""
        if self.query("SELECT to_regclass(:table)", table=table) == [(None,)]:
            return 0
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[Database]:
    url = server.create_database()
    made = Database(url)
    yield made
    made.close()
    server.drop_database(url)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real MLflow server, which other checks may use, too."""
    # Starting one takes longer than all that checks ask of it.
    if running := os.environ.get("COURSE_MLFLOW"):
        yield running
        return
    with started_mlflow(tmp_path_factory) as url:
        yield url


@contextmanager
def started_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a new server with artifacts of its own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), servers.free_port()
    url = f"http://127.0.0.1:{port}"
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db"]
    stores += [f"--artifacts-destination={folder}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *place, *stores]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    running = Program(command, folder, folder / "server.log", {**os.environ, **quiet})
    try:
        running.until(lambda: answers(f"{url}/health"))
        yield url
    finally:
        running.remove()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200.

    Raises:
        AssertionError: There is a server, which does not know this route and never will.
    """
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except HTTPError as error:
        if error.code == 404:
            raise AssertionError(f"GET {url}: 404") from None
        return False
    except (URLError, OSError):
        return False


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """A real broker that speaks the protocol of Kafka; ``broker.servers`` is its address."""
    from tests.pipelines.scoring.kafka_broker import KafkaBroker

    running = KafkaBroker(tmp_path_factory.mktemp("broker"))
    yield running
    running.stop()
