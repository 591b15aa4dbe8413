"""The prediction log of whole servers: killed, without a database, with several workers."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from mlops_for_mle.database import embedded
from mlops_for_mle.database.engine import engine_for, normalise_url
from mlops_for_mle.database.schema import upgrade
from mlops_for_mle.releases.store import ReleaseStore
from tests.serving.conftest import IRIS_ROW, Database, ServerProcess, wait_until

pytestmark = pytest.mark.integration


class Load:
    """Clients that ask until they are told to stop, and remember every answer."""

    def __init__(self, server: ServerProcess, clients: int = 4) -> None:
        self.ids: list[str] = []
        self.statuses: set[int] = set()
        self._url = server.url
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=5) as client:
            while not self._done.is_set():
                try:
                    answer = client.post("/predict", json=IRIS_ROW)
                except httpx.TransportError:
                    return
                self.statuses.add(answer.status_code)
                if answer.status_code == 200:
                    self.ids.append(answer.json()["prediction_id"])

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def own_home(tmp_path_factory) -> Iterator[Path]:
    """A database server that the test may stop."""
    home = tmp_path_factory.mktemp("own_postgres")
    yield home
    embedded.destroy(home)


def start_postgres(home: Path) -> str:
    return normalise_url(embedded.acquire(home, ("mlops",)).url("mlops"), "test")


def logged(url: str) -> list[str]:
    with engine_for(url).connect() as connection:
        return list(connection.scalars(text("SELECT prediction_id FROM predictions")))


def everything_is_logged(url: str, answered: list[str]) -> Callable[[], bool]:
    return lambda: set(answered) <= set(logged(url))


def test_no_answer_is_lost_when_the_database_stops_and_the_server_is_killed_under_load(
    start_server, own_home, tmp_path, iris
):
    url = start_postgres(own_home)
    upgrade(url)
    ReleaseStore(str(tmp_path / "data" / "releases")).publish(iris)
    Database(url).deploy(iris)
    variables = {"DATABASE_URL": url, "MLOPS_RETRY_SECONDS": "1"}
    server = start_server(**variables)
    server.wait_until_ready()
    load = Load(server)
    answered: list[str] = []
    try:
        wait_until(lambda: len(load.ids) > 200)
        embedded.stop(own_home)
        before = len(load.ids)
        wait_until(lambda: len(load.ids) > before + 200)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    finally:
        load.stop()
        answered += load.ids
    assert load.statuses == {200}

    # The next process serves from its cache while the database is still away.
    second = start_server(**variables)
    second.wait_until_ready()
    load = Load(second)
    try:
        wait_until(lambda: len(load.ids) > 100)
        assert start_postgres(own_home) == url
        before = len(load.ids)
        wait_until(lambda: len(load.ids) > before + 100)
    finally:
        load.stop()
        answered += load.ids
    assert load.statuses == {200}
    wait_until(everything_is_logged(url, answered), what="the complete log")
    assert second.stop() == 0

    rows = logged(url)
    assert len(rows) == len(set(rows))
    # A request whose answer the kill has cut off may be logged too: one for each client.
    assert len(set(rows) - set(answered)) <= 4
    spool = tmp_path / "data" / "serving_spool"
    assert not list(spool.rglob("*.log"))


def test_a_living_worker_ships_what_a_killed_one_left(
    start_server, database, store, tmp_path, iris
):
    database.run("TRUNCATE predictions")
    store.publish(iris)
    database.deploy(iris)
    server = start_server("--workers", "2", DATABASE_URL=database.url, MLOPS_SHIP_SECONDS="3")
    wait_until(lambda: server.get("/health/live"), timeout=30, what="a worker")
    server.wait_until_ready()
    spool = tmp_path / "data" / "serving_spool"

    def worker_with_segments() -> int | None:
        found = [path.name for path in spool.glob("*.log") if path.stat().st_size]
        return int(found[0].split("-")[1]) if found else None

    load = Load(server)
    wait_until(lambda: len(load.ids) > 100)
    victim = wait_until(worker_with_segments)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not any(f"-{victim}-" in path.name for path in spool.iterdir()))
    load.stop()
    answered = list(load.ids)
    time.sleep(0.1)

    wait_until(everything_is_logged(database.url, answered), what="the complete log")
    assert server.stop() == 0
    rows = logged(database.url)
    assert len(rows) == len(set(rows))
