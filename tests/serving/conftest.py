"""What the tests of the server share: a real database, releases, applications and processes."""

import asyncio
import re
import resource
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from course.conftest import Program
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for, normalise_url
from mlops_for_mle.database.schema import upgrade
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import Deployment, Release
from mlops_for_mle.releases.store import ReleaseStore
from mlops_for_mle.serving.app import create_app
from mlops_for_mle.serving.keys import KeyFile, Scope
from mlops_for_mle.serving.releases import ServedRelease
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.settings import ServingSettings
from tests.end_to_end.commands import Project
from tests.releases import IRIS_CONTRACT, house_release, iris_release, mixed_release
from tests.servers import DatabaseServer, eventually

IRIS_ROW = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}
NOWHERE = "postgresql://nobody:hidden@127.0.0.1:1/nothing"


_release = pytest.fixture(scope="session")
iris = _release(lambda: iris_release(1))
iris_second = _release(lambda: iris_release(2))
houses = _release(lambda: house_release(1))
mixed = _release(lambda: mixed_release(1))


@pytest.fixture(scope="session")
def odd(iris: Release) -> Release:
    """That of iris under names which SQL, COPY, JSON or a template could take for their own."""
    raw = IRIS_CONTRACT.model_dump()
    names = ("a b", "a_b", ":x", '100% "of" it\'s\\ a field,{0} %s')
    raw["features"] = dict(zip(names, raw["features"].values(), strict=True))
    raw["table"], raw["target"]["column"] = '50% of "it" {row}', "order"
    raw["target"]["response_name"] = "answer %"
    raw["target"]["classes"][2]["label"] = "50%\n'x' \\. \x01\x02\t"
    manifest = iris.manifest.model_copy(update={"contract": Contract.model_validate(raw)})
    return Release(manifest=manifest, model=iris.model)


@pytest.fixture(scope="session")
def server_url(embedded_server: DatabaseServer) -> str:
    url = normalise_url(embedded_server.create_database(), "test")
    upgrade(url)
    return url


@pytest.fixture
def database(settings, server_url: str, monkeypatch: pytest.MonkeyPatch) -> "Database":
    found = Database(server_url)
    tables = "deployments, predictions, feedback, idempotency_keys, monitoring_runs"
    found.run(f"TRUNCATE {tables}, monitoring_reports RESTART IDENTITY CASCADE")
    monkeypatch.setenv("DATABASE_URL", server_url)
    return found


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServingSettings:
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(tmp_path))
    # Or whoever asks for the database would start one; the fixture `database` has another.
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    return ServingSettings(poll_seconds=0.05)


@pytest.fixture
def store(settings: ServingSettings) -> ReleaseStore:
    return ReleaseStore(settings.release_store)


@pytest.fixture
def deploy(database: "Database", store: ReleaseStore) -> Callable[..., int]:
    """Publish releases and deploy one after the other; gives the last row's number."""

    def deploy(*releases: Release) -> int:
        for release in releases:
            store.publish(release)
            number = database.deploy(release, reason=f"because of {release.manifest.version}")
        return number

    return deploy


@pytest.fixture
def client(settings: ServingSettings, iris: Release) -> "Client":
    return Client(settings, iris)


@pytest.fixture
def start_client(settings: ServingSettings, database: "Database"):
    """Makes clients whose prediction log is shipped."""
    started: list[Client] = []

    def start(release: Release, **changes: Any) -> Client:
        started.append(Client(settings, release, **{"ship_seconds": 0.05} | changes))
        started[-1].services.log.start()
        return started[-1]

    yield start
    for one in started:
        one.services.log.stop(5)


@pytest.fixture
def start_server(tmp_path: Path) -> "Iterator[Callable[..., ServerProcess]]":
    with server_processes(tmp_path) as start:
        yield start


@pytest.fixture
def start_serving(start_server, database, deploy) -> "Callable[..., ServerProcess]":
    """Start a server of releases that were deployed one after the other; it serves the last."""

    def start(*releases: Release, options: Sequence[str] = (), **variables: str) -> ServerProcess:
        deploy(*releases)
        server = start_server(*options, DATABASE_URL=database.url, **variables)
        server.wait_until_ready(releases[-1].manifest.release)
        return server

    return start


class Database:
    """The project's database, with the shortcuts that these tests need."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str, **values: Any) -> list[Any]:
        with engine_for(self.url).begin() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    rows = run

    def count(self, table: str) -> int:
        return int(self.rows(f'SELECT count(*) FROM "{table}"')[0][0])

    def deploy(self, release: Release, event: str = "deploy", **changes: str) -> int:
        """Append a row, whatever the newest one says."""
        row = vars(deployment_of(release, event=event)) | changes
        del row["id"], row["created_at"]
        with engine_for(self.url).begin() as connection:
            statement = deployments.deployments.insert().returning(deployments.deployments.c.id)
            return int(connection.execute(statement.values(row)).scalar_one())

    def history(self, contract: str = "iris") -> list[Deployment]:
        with engine_for(self.url).connect() as connection:
            return deployments.history(connection, contract)


def deployment_of(release: Release, number: int = 1, event: str = "deploy") -> Deployment:
    manifest = release.manifest
    return Deployment(
        id=number,
        contract=manifest.contract.name,
        event=event,  # type: ignore[arg-type]
        release=manifest.release,
        model_version=manifest.version,
        run_id=manifest.run_id,
        reason="test",
        actor="test",
        created_at=datetime.now(UTC),
    )


def ask(application: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask an application, as a server would."""

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asking())


class Asking:
    """What clients of an application, of a server process and of a whole stack can do alike.

    Each request has their ``headers``, such as that of a key.
    """

    headers: Mapping[str, str] = {}
    ask: Callable[..., httpx.Response]

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        return self.ask(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def predict(self, body: Any = IRIS_ROW, **options: Any) -> Any:
        answer = self.post("/predict", json=body, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def samples(self) -> dict[tuple, float]:
        """What is told to Prometheus, by name and labels."""
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
        }


class Serving(Asking):
    """Asks what listens at a URL."""

    url: str

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=60, **options)


class Client(Asking):
    """Asks an application whose threads do not run, so that its log keeps what it is given."""

    def __init__(
        self, settings: ServingSettings, release: Release | None = None, **changes: Any
    ) -> None:
        self.services = Services(settings.model_copy(update=changes))
        self.services.log.root.mkdir(parents=True, exist_ok=True)
        if release is not None:
            self.serve(release)
        self.application = create_app(self.services)

    def serve(self, release: Release) -> ServedRelease:
        served = ServedRelease(release, deployment_of(release), "store")
        self.services.releases.serve(served)
        return served

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return ask(self.application, method, path, **options)

    def counted(self, name: str) -> float:
        """What a counter or gauge of this process says."""
        return self.services.metrics.registry.get_sample_value(f"mlops_{name}") or 0

    def kept(self) -> list[list[str]]:
        """The lines of the prediction log that wait, as their fields."""
        self.services.log.end_segment()
        return [
            line.split("\t")[1:]
            for path in sorted(self.services.log.root.glob("*.log"))
            for line in path.read_text("utf-8").splitlines()
        ]


def make_key(settings: ServingSettings, *scopes: Scope, name: str = "somebody") -> dict[str, str]:
    """Make a key; gives the header that presents it."""
    return {"Authorization": f"Bearer {KeyFile(settings.api_keys_file).create(name, scopes)}"}


def error_paths(answer: httpx.Response) -> list[str]:
    """Where the faults of a body are that was refused."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["path"] for error in answer.json()["errors"]]


def wait_until(
    condition: Callable[[], Any], timeout: float = 90.0, what: str = "the condition"
) -> Any:
    found = eventually(condition, timeout)
    assert found, f"{what} did not come true within {timeout} s"
    return found


def peak_of(task: Callable[[], Any]) -> tuple[Any, int]:
    """What a task gives, and the most memory that it has taken."""
    tracemalloc.start()
    try:
        return task(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    """Of a resource of ``resource`` this process has no more meanwhile."""
    limits = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, limits)


class ServerProcess(Program, Serving):
    """A server in a process of its own, by default ``python -m mlops_for_mle.serving``."""

    def __init__(
        self, folder: Path, *options: str, command: str = "mlops_for_mle.serving", **variables: str
    ) -> None:
        environment = Project(folder, {"MLOPS_POLL_SECONDS": "0.1"} | variables).environment
        line = [sys.executable, "-m", *command.split(), "--port", "0", *options]
        super().__init__(line, folder, folder / f"server-{time.monotonic_ns()}.log", environment)

    @cached_property
    def url(self) -> str:
        self.until(lambda: "Listening on" in self.output, 90)
        return re.search(r"Listening on (http://\S+)", self.output)[1]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def wait_until_ready(self, release: str | None = None) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            answer = self.get("/health/ready")
            if answer.status_code != 200:
                return None
            found: dict[str, Any] = answer.json()
            return found if release in (None, found["release"]) else None

        return wait_until(ready, what=f"readiness with {release or 'any release'}")

    def end(self) -> None:
        """Have it end, which it must do in order."""
        self.stop()
        assert self.ends(90) == 0, self.output


@contextmanager
def server_processes(folder: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers in a folder; none of them is left."""
    started: list[ServerProcess] = []

    def start(*options: str, **variables: str) -> ServerProcess:
        started.append(ServerProcess(folder, *options, **variables))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.remove()
            # Shown beside a test that fails.
            print(one.output)  # noqa: T201


class Load:
    """Clients that ask until they are told to stop or the server ends, and what they were told."""

    def __init__(self, server: ServerProcess, clients: int = 4, pause: float = 0.0) -> None:
        self.answered: dict[str, str] = {}
        self.failures: list[str] = []
        # Whether the server may end, and so no longer answer.
        self.is_ending = False
        self._done = threading.Event()
        self._server, self._pause = server, pause
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        before = len(self.answered)
        wait_until(lambda: len(self.answered) > before + more, what="answers")

    def stop(self) -> dict[str, str]:
        """The releases by the ids of their predictions; nobody was told anything else."""
        self._done.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive()
        assert not self.failures
        return self.answered

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=60) as client:
            while not self._done.wait(self._pause):
                try:
                    answer = client.post("/predict", json=IRIS_ROW, headers=self._server.headers)
                except httpx.TransportError as error:
                    if not self.is_ending:
                        self.failures.append(repr(error))
                    return
                if answer.status_code == 200:
                    body = answer.json()
                    self.answered[body["prediction_id"]] = body["release"]
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")
