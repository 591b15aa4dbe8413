"""Deployments and rollbacks, and the end of servers, while clients go on asking."""

from collections import Counter
from pathlib import Path

import pytest

from tests.serving.conftest import IRIS_ROW, Load, ServerProcess, make_key, wait_until

pytestmark = pytest.mark.integration

CHANGES = 20


def test_twenty_deployments_and_rollbacks_and_sigterm_fail_no_request_and_lose_no_prediction(
    start_serving, settings, database, iris, iris_second
):
    server = start_serving(iris_second, iris, MLOPS_SHIP_SECONDS="60")
    key = make_key(settings, "admin")
    # Who has no key is answered until the server has read the file.
    wait_until(lambda: server.get("/deployments").status_code == 401)
    server.headers = key
    load = Load(server, pause=0.02)
    try:
        for number in range(CHANGES):
            wanted = (iris_second, iris)[number % 2]
            if number % 4 < 2:
                database.deploy(wanted)
            else:
                body = {"reason": f"change {number}", "release": wanted.manifest.release}
                answer = server.post("/deployments/rollback", body)
                assert answer.status_code == 201, answer.text
            server.wait_until_ready(wanted.manifest.release)
    finally:
        load.is_ending = True
        code = server.stop()
        answered = load.stop()

    assert code == 0, server.output()
    assert set(answered.values()) == {iris.manifest.release, iris_second.manifest.release}
    rows = database.rows("SELECT prediction_id, release FROM predictions")
    assert len(rows) == len(answered) > CHANGES
    assert {row.prediction_id: row.release for row in rows} == answered
    assert not list(settings.spool.iterdir())
    assert len(database.history()) == CHANGES + 2


def test_a_deployment_and_a_rollback_reach_all_replicas_and_their_logs_do_not_mix(
    start_server, settings, database, store, tmp_path: Path, deploy, iris, iris_second
):
    admin = make_key(settings, "admin")

    def start_replica(number: int) -> ServerProcess:
        """The first has a folder of its own, the others have one."""
        folder = tmp_path / ("own" if number == 0 else "shared")
        server = start_server(
            DATABASE_URL=database.url,
            MLOPS_RELEASE_STORE=store.url,
            MLOPS_SPOOL=str(folder / "spool"),
            MLOPS_CACHE=str(folder / "cache"),
        )
        server.headers = admin
        return server

    deploy(iris)
    first, second = iris.manifest.release, iris_second.manifest.release
    replicas = [start_replica(number) for number in range(3)]
    answered: list[tuple[str, str, float]] = []

    def ask_all(release: str) -> None:
        for server in replicas:
            server.wait_until_ready(release)
        for _ in range(10):
            for number, server in enumerate(replicas):
                sent = 5 + number / 10
                found = server.predict(IRIS_ROW | {"sepal_length": sent})
                answered.append((found["prediction_id"], found["release"], sent))

    ask_all(first)
    deploy(iris_second)
    ask_all(second)
    told = replicas[1].post("/deployments/rollback", {"reason": "looks worse"})
    assert told.status_code == 201, told.text
    ask_all(first)
    # One is killed; the others go on, and what it has not shipped is shipped when it comes back.
    killed = replicas.pop()
    killed.process.kill()
    killed.process.wait()
    ask_all(first)
    replicas.append(start_replica(2))
    replicas[2].wait_until_ready(first)

    for server in replicas:
        assert server.stop() == 0
    logged = "SELECT prediction_id, release, (features -> 'sepal_length')::float FROM predictions"
    assert sorted(map(tuple, database.rows(logged))) == sorted(answered)
    assert Counter(one[1] for one in answered) == {first: 30 + 30 + 20, second: 30}
