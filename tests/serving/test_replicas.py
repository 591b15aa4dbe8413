"""Several servers, as on several machines, over one database and one release store."""

from collections import Counter
from pathlib import Path

import httpx
import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.releases import deployments
from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import IRIS_ROW, ServerProcess, wait_until

pytestmark = pytest.mark.integration

LOGGED = "SELECT prediction_id, release, features ->> 'sepal_length' AS sent FROM predictions"


@pytest.fixture
def start_replica(start_server, database, store, tmp_path: Path):
    """Starts one of several servers; the first has a folder of its own, the others have one."""
    keys = tmp_path / "keys.json"
    admin = {"X-API-Key": KeyFile(keys).create("kim", ("admin",))}

    def start(number: int) -> ServerProcess:
        folder = tmp_path / ("own" if number == 0 else "shared")
        server = start_server(
            DATABASE_URL=database.url,
            MLOPS_RELEASE_STORE=store.url,
            MLOPS_API_KEYS_FILE=str(keys),
            MLOPS_SPOOL=str(folder / "spool"),
            MLOPS_CACHE=str(folder / "cache"),
        )
        server.headers = admin
        return server

    return start


def deploy(database, release) -> None:
    with engine_for(database.url).connect() as connection:
        assert deployments.deploy(connection, release.manifest, reason="x", actor="ada")


def all_serve(replicas: list[ServerProcess], release: str) -> bool:
    answers = [server.get("/health/ready") for server in replicas]
    return all(one is not None and one.json()["release"] == release for one in answers)


def predict(server: ServerProcess, length: float) -> tuple[str, str, str]:
    row = IRIS_ROW | {"sepal_length": length}
    answer = httpx.post(f"{server.url}/predict", json=row, headers=server.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["prediction_id"], answer.json()["release"], str(length)


def test_a_deployment_and_a_rollback_reach_all_and_their_logs_do_not_mix(
    start_replica, database, store, iris, iris_second
):
    for release in (iris, iris_second):
        store.publish(release)
    deploy(database, iris)
    replicas = [start_replica(number) for number in range(3)]
    for server in replicas:
        server.wait_until_ready(iris.manifest.release)
    first, second = iris.manifest.release, iris_second.manifest.release
    answered = []

    def ask_all() -> None:
        for _ in range(10):
            for number, server in enumerate(replicas):
                answered.append(predict(server, 5 + number / 10))

    ask_all()
    deploy(database, iris_second)
    wait_until(lambda: all_serve(replicas, second), what="the deployment everywhere")
    ask_all()
    body = {"reason": "looks worse"}
    headers = replicas[1].headers
    told = httpx.post(f"{replicas[1].url}/deployments/rollback", json=body, headers=headers)
    assert told.status_code == 201, told.text
    wait_until(lambda: all_serve(replicas, first), what="the rollback everywhere")
    ask_all()
    # One is killed; the others go on, and what it has not shipped is shipped when it comes back.
    killed = replicas.pop()
    killed.process.kill()
    killed.process.wait()
    ask_all()
    replicas.append(start_replica(2))
    replicas[2].wait_until_ready(first)

    for server in replicas:
        assert server.stop() == 0
    assert sorted(map(tuple, database.rows(LOGGED))) == sorted(answered)
    assert Counter(one[1] for one in answered) == {first: 30 + 30 + 20, second: 30}
