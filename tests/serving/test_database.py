"""What is slow holds up nothing of another kind; checked with a server that runs as a process."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from uuid_utils import uuid7

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_observations
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import IRIS_ROW, Client, ServerProcess, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def server(start_serving, database, iris) -> ServerProcess:
    database.run("DROP TABLE IF EXISTS iris_data")
    ensure_observations(database.url, IRIS_CONTRACT)
    return start_serving(iris, MLOPS_SHIP_SECONDS="0.1")


@pytest.fixture
def held(database) -> Iterator[None]:
    """Nobody can read the table of observations."""
    with engine_for(database.url).begin() as connection:
        connection.exec_driver_sql("LOCK TABLE iris_data IN ACCESS EXCLUSIVE MODE")
        yield


def test_an_embedded_server_that_cannot_start_is_a_database_that_is_away(
    settings, iris, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(settings.project_path))
    (settings.project_path / "data").mkdir(exist_ok=True)
    (settings.project_path / "data/postgres").write_text("a file")

    answer = Client(settings, iris)("GET", "/deployments")

    assert answer.status_code == 503
    assert "postgres" in answer.json()["detail"]


def test_forty_slow_observations_hold_up_nothing_else(
    server, database, store, iris_second, request
):
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.get(f"{server.url}/observations", timeout=60).status_code)

    request.getfixturevalue("held")
    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    wait_until(lambda: answers.count(429) == 8, what="more than may wait")

    predicted = httpx.post(f"{server.url}/predict", json=IRIS_ROW).json()
    wait_until(lambda: database.rows("SELECT 1 FROM predictions"), what="the shipped prediction")
    label = {"prediction_id": predicted["prediction_id"], "label": 2}
    assert httpx.post(f"{server.url}/feedback", json=label).status_code == 201
    assert httpx.get(f"{server.url}/deployments").status_code == 200
    assert httpx.get(f"{server.url}/monitoring").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 200
    store.publish(iris_second)
    database.deploy(iris_second)
    server.wait_until_ready(iris_second.manifest.release)
    assert set(answers) == {429}, "the others waited all the time"
    server.process.terminate()

    assert server.process.wait(90) == 0
    for thread in threads:
        thread.join(60)


def test_a_database_that_is_stuck_holds_up_neither_predictions_nor_the_end(server, database):
    paths = ("/observations", "/predictions/recent", "/deployments", "/metrics")
    for path in paths:
        assert httpx.get(server.url + path).status_code == 200
    backends = database.rows(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'mlops-for-mle %'"
    )
    for (pid,) in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(200) as asking:
            for path in paths * 50:
                asking.submit(httpx.get, server.url + path, timeout=60)
            wait_until(
                lambda: server.get("/health/ready").json()["database"]["available"] is False,
                what="the truth",
            )
            predicted = httpx.post(f"{server.url}/predict", json=IRIS_ROW, timeout=60)
            assert predicted.status_code == 200
            assert server.get("/openapi.json").status_code == 200
            assert server.get("/health/ready").status_code == 200
            server.process.terminate()
            assert server.process.wait(90) == 0
    finally:
        for (pid,) in backends:
            os.kill(pid, signal.SIGCONT)


def memory_of(server: ServerProcess) -> int:
    """The most that the process has ever had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(one for one in status.splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_large_body_of_faults_is_answered_shortly_and_in_little_memory(server):
    headers = {"content-type": "application/json"}
    id_only = f'{{"prediction_id":"{uuid7()}","label":1}}'
    for path in ("/observations", "/feedback"):
        httpx.post(server.url + path, content=id_only, headers=headers)
        for body in (
            b'{"petal_length":"' + b"x" * 15_000_000 + b'"}',
            b"{" * 15_000_000,
            b"{" + b",".join(b'"%d":0' % number for number in range(1_200_000)) + b"}",
            b'{"petal_length":[' + b",".join([b"{}"] * 5_000_000) + b"]}",
        ):
            before = memory_of(server)
            answer = httpx.post(server.url + path, content=body, headers=headers, timeout=60)
            assert answer.status_code == 422, answer.text
            assert len(answer.content) < 20_000
            assert memory_of(server) - before < 8 * len(body)
