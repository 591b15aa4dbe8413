"""What is slow holds up nothing of another kind; checked with a server that runs as a process."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_observations
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import wait_until

pytestmark = pytest.mark.integration


def test_an_embedded_server_that_cannot_start_is_a_database_that_is_away(
    client, settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(settings.project_path))
    (settings.project_path / "data").mkdir(exist_ok=True)
    (settings.project_path / "data/postgres").write_text("a file")

    answer = client.get("/deployments")

    assert answer.status_code == 503
    assert "postgres" in answer.json()["detail"]


def test_neither_forty_slow_requests_nor_a_stuck_database_hold_up_anything_else(
    start_serving, database, deploy, iris, iris_second
):
    database.run("DROP TABLE IF EXISTS iris_data")
    ensure_observations(database.url, IRIS_CONTRACT)
    server = start_serving(iris, MLOPS_SHIP_SECONDS="0.1", MLOPS_SHUTDOWN_SECONDS="2")
    paths = ("/observations", "/predictions/recent", "/deployments", "/metrics")
    answers: list[int] = []

    def ask(_: int) -> None:
        answers.append(httpx.get(f"{server.url}/observations", timeout=60).status_code)

    with ThreadPoolExecutor(40) as asking, engine_for(database.url).begin() as connection:
        connection.exec_driver_sql("LOCK TABLE iris_data IN ACCESS EXCLUSIVE MODE")
        asking.map(ask, range(40))
        wait_until(lambda: answers.count(429) == 8, what="more than may wait")
        predicted = server.predict()
        wait_until(lambda: database.count("predictions"), what="the shipped prediction")
        label = {"prediction_id": predicted["prediction_id"], "label": 2}
        assert server.post("/feedback", label).status_code == 201
        for path in (*paths[1:], "/monitoring"):
            assert server.get(path).status_code == 200
        deploy(iris_second)
        server.wait_until_ready(iris_second.manifest.release)
        assert set(answers) == {429}, "the others waited all the time"
        connection.rollback()
    assert server.get("/observations").status_code == 200

    backends = database.rows(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'mlops-for-mle %'"
    )
    for (pid,) in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(200) as asking:
            for path in paths * 50:
                asking.submit(server.get, path)
            wait_until(
                lambda: server.get("/health/ready").json()["database"]["available"] is False,
                what="the truth",
            )
            server.predict()
            assert server.get("/openapi.json").status_code == 200
            assert server.get("/health/ready").status_code == 200
            assert server.stop() == 0
    finally:
        for (pid,) in backends:
            os.kill(pid, signal.SIGCONT)
