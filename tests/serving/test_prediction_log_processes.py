"""The prediction log of whole servers: killed, without a database, with several workers."""

import os
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import upgrade
from mlops_for_mle.serving.server import MEMORY
from tests.servers import ExternalPostgres
from tests.serving.conftest import IRIS_ROW, Database, Load, wait_until


@pytest.fixture
def own_postgres() -> Iterator[ExternalPostgres]:
    """A database server that the test may stop."""
    server = ExternalPostgres()
    yield server
    server.remove()


def wait_until_logged(database: Database, answered: Collection[str]) -> list[str]:
    def logged() -> list[str]:
        return [row[0] for row in database.rows("SELECT prediction_id FROM predictions")]

    wait_until(lambda: set(answered) <= set(logged()), what="the complete log")
    rows = logged()
    assert len(rows) == len(set(rows))
    return rows


def test_no_answer_is_lost_when_the_database_crashes_and_the_server_is_killed_under_load(
    start_server, own_postgres, settings, store, iris
):
    url = own_postgres.url
    upgrade(url)
    store.publish(iris)
    Database(url).deploy(iris)
    # Somebody prefers speed: what was committed last is lost with a crash.
    with engine_for(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET synchronous_commit TO off")
        connection.exec_driver_sql("ALTER SYSTEM SET wal_writer_delay TO '10s'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    server = start_server(DATABASE_URL=url)
    server.wait_until_ready()
    load = Load(server, pause=0.005)
    load.wait_for(100)
    own_postgres.stop("immediate")
    load.wait_for(100)
    load.is_ending = True
    server.remove()
    answered = load.stop()

    # The next process serves from its cache while the database is still away.
    second = start_server(DATABASE_URL=url)
    assert second.wait_until_ready()["origin"] == "cache"
    wait_until(lambda: second.get("/health/ready").json()["database"]["available"] is False)
    load = Load(second, pause=0.005)
    load.wait_for(100)
    own_postgres.start()
    load.wait_for(100)
    answered |= load.stop()
    rows = wait_until_logged(Database(url), answered)
    second.end()

    # A request whose answer the kill has cut off may be logged too: one for each client.
    assert len(set(rows) - set(answered)) <= 4
    assert not list(settings.spool.rglob("*.log"))


def test_two_workers_count_as_one_follow_alike_ship_what_a_killed_one_left_and_leave_nothing(
    start_serving, settings, database, deploy, iris, iris_second
):
    server = start_serving(iris, options=("--workers", "2"), MLOPS_SHIP_SECONDS="1")
    took_over = f"Serving release {iris.manifest.release}"
    wait_until(lambda: server.output.count(took_over) == 2)
    for body in (*[IRIS_ROW] * 60, {}):
        # A new connection each time, so that both processes take some.
        server.post("/predict", json=body)
    count = ("mlops_request_duration_seconds_count", ("method", "POST"), ("route", "/predict"))
    classes = (("class", "virginica"), ("contract", "iris"), ("model_version", "1"))
    for _ in range(10):
        found = server.samples()
        assert found[*count, ("status", "200")] == 60
        assert found[*count, ("status", "422")] == 1
        assert found["mlops_predictions_total", *classes] == 60
    wait_until(lambda: server.samples()[("mlops_spool_shipped_total",)] == 60)

    deploy(iris_second)
    took_over = f"Serving release {iris_second.manifest.release}"
    wait_until(lambda: server.output.count(took_over) == 2)

    def worker_with_segments() -> int | None:
        found = [path.name for path in settings.spool.glob("*.log") if path.stat().st_size]
        return int(found[0].split("-")[1]) if found else None

    load = Load(server, pause=0.005)
    load.wait_for(100)
    victim = wait_until(worker_with_segments)
    # Its clients lose their connections.
    load.is_ending = True
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not any(f"-{victim}-" in path.name for path in settings.spool.iterdir()))
    answered = load.stop()

    wait_until_logged(database, answered)
    assert set(answered.values()) == {iris_second.manifest.release}
    # With their supervisor they end, too.
    host, port = server.address
    (folder,) = MEMORY.glob(f"mlops-metrics-{host}-{port}-*")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    wait_until(lambda: not folder.exists())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_workers_outlive_a_full_disk_and_ship_what_fills_it(
    small_disk, start_serving, database, iris
):
    variables = {"MLOPS_SPOOL": str(small_disk / "spool"), "MLOPS_SHIP_SECONDS": "3"}
    server = start_serving(iris, options=("--workers", "2"), **variables)
    wait_until(lambda: server.output.count("Serving release") == 2)

    # Rows of an answer until no more fit, and then what takes the rest.
    statuses = [server.post("/predict", json=[IRIS_ROW] * 100).status_code for _ in range(50)]
    with (small_disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
        while True:
            rest.write(bytes(4096))
    for path in ("/predict", "/invocations", "/explain"):
        statuses.append(server.post(path, json=[]).status_code)

    assert {200, 503} <= set(statuses)
    wait_until(lambda: database.count("predictions") == 100 * statuses.count(200))
    assert "died" not in server.output
    (small_disk / "rest").unlink()
    wait_until(lambda: server.predict()["release"])
    server.end()
