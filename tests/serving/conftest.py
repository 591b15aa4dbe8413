"""What the tests of the server share: a real database, releases and server processes."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from mlops_for_mle import deployments
from mlops_for_mle.database import embedded, engine_for, normalise_url, upgrade
from mlops_for_mle.release import Release, ReleaseStore
from mlops_for_mle.serving.releases.served_release import FollowedDeployment, ServedRelease
from mlops_for_mle.serving.settings import ServingSettings
from tests.releases import house_release, iris_release

IRIS_ROW = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}


@pytest.fixture(scope="session")
def iris() -> Release:
    return iris_release(1)


@pytest.fixture(scope="session")
def iris_second() -> Release:
    return iris_release(2)


@pytest.fixture(scope="session")
def houses() -> Release:
    return house_release(1)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("postgres")
    url = normalise_url(embedded.acquire(home, ("mlops",)).url("mlops"), "test")
    upgrade(url)
    yield url
    embedded.destroy(home)


@pytest.fixture
def database(server_url: str, monkeypatch: pytest.MonkeyPatch) -> "Database":
    found = Database(server_url)
    found.run("TRUNCATE deployments RESTART IDENTITY")
    monkeypatch.setenv("DATABASE_URL", server_url)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    return ServingSettings.load(
        {"project_path": tmp_path, "poll_seconds": 0.05, "retry_seconds": 0.2}
    )


@pytest.fixture
def store(settings: ServingSettings) -> ReleaseStore:
    return ReleaseStore(settings.release_store)


class Database:
    """The project's database, with the shortcuts that these tests need."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str, **values: Any) -> None:
        with engine_for(self.url).begin() as connection:
            connection.execute(text(statement), values)

    def deploy(self, release: Release, event: str = "deploy", **changes: Any) -> int:
        manifest = release.manifest
        row = {
            "contract": manifest.contract.name,
            "event": event,
            "release": manifest.release,
            "model_version": manifest.model.version,
            "run_id": manifest.model.run_id,
            "reason": "test",
            "actor": "test",
        } | changes
        with engine_for(self.url).begin() as connection:
            return deployments.append(connection, **row)

    def history(self, contract: str = "iris") -> list[deployments.DeploymentRow]:
        with engine_for(self.url).connect() as connection:
            return deployments.history(connection, contract, ("deploy", "rollback", "load_failed"))


def deployment_of(release: Release, number: int = 1) -> FollowedDeployment:
    manifest = release.manifest
    return FollowedDeployment(
        id=number,
        contract=manifest.contract.name,
        event="deploy",
        release=manifest.release,
        model_version=manifest.model.version,
        run_id=manifest.model.run_id,
        reason="test",
        actor="test",
        created_at=manifest.created_at,
    )


def serve(release: Release) -> ServedRelease:
    return ServedRelease(release, deployment_of(release), "store")


def wait_until(
    condition: Callable[[], Any], timeout: float = 10.0, what: str = "the condition"
) -> Any:
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)


class ServerProcess:
    """``python -m mlops_for_mle.serving`` as a person runs it."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.log = folder / f"server-{time.monotonic_ns()}.log"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MLOPS_") and name != "DATABASE_URL"
        }
        environment |= {"MLOPS_PROJECT_PATH": str(folder), "MLOPS_POLL_SECONDS": "0.1"} | variables
        self.started_at = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlops_for_mle.serving", "--port", "0", *options],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._url: str | None = None

    @property
    def url(self) -> str:
        if self._url is None:
            self._url = wait_until(self._announced, timeout=30, what="the announcement")
        return self._url

    def _announced(self) -> str | None:
        if self.process.poll() is not None:
            raise AssertionError(f"The server ended early:\n{self.output()}")
        found = re.search(r"Listening on (http://\S+)", self.output())
        return found.group(1) if found else None

    def output(self) -> str:
        return self.log.read_text("utf-8")

    def get(self, path: str) -> httpx.Response | None:
        try:
            return httpx.get(self.url + path, timeout=5)
        except httpx.TransportError:
            return None

    def wait_until_ready(self, release: str | None = None) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            answer = self.get("/health/ready")
            if answer is None or answer.status_code != 200:
                return None
            found: dict[str, Any] = answer.json()
            return found if release in (None, found["release"]) else None

        try:
            return wait_until(ready, timeout=30, what=f"readiness with {release or 'any release'}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=15)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    started: list[ServerProcess] = []

    def start(*options: str, **variables: str) -> ServerProcess:
        started.append(ServerProcess(tmp_path, *options, **variables))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
