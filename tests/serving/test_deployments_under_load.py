"""Deployments and rollbacks, then the end of the server, while clients go on asking."""

import threading
import time
from pathlib import Path

import httpx
import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import IRIS_ROW, ServerProcess

pytestmark = pytest.mark.integration

CHANGES = 20


class SteadyLoad:
    """Clients that each ask some fifty times a second, and remember what became of it."""

    def __init__(self, server: ServerProcess, headers: dict[str, str], clients: int = 4) -> None:
        self.answered: dict[str, str] = {}
        self.failures: list[str] = []
        self.is_ending = False
        self._url = server.url
        self._headers = headers
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=10) as client:
            while True:
                try:
                    answer = client.post("/predict", json=IRIS_ROW)
                except httpx.TransportError as error:
                    # A server that has ended takes no more requests; before, nothing may fail.
                    if not self.is_ending:
                        self.failures.append(repr(error))
                    return
                if answer.status_code == 200:
                    body = answer.json()
                    self.answered[body["prediction_id"]] = body["release"]
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")
                time.sleep(0.02)


def test_twenty_deployments_and_rollbacks_and_sigterm_fail_no_request_and_lose_no_prediction(
    start_server, database, store, tmp_path: Path, iris, iris_second
):
    database.run("TRUNCATE predictions")
    for release in (iris_second, iris):
        store.publish(release)
        database.deploy(release)
    key = KeyFile(tmp_path / "conf" / "local" / "api_keys.json").create("tests", ["admin"])
    headers = {"Authorization": f"Bearer {key}"}
    server = start_server(DATABASE_URL=database.url, MLOPS_SHIP_SECONDS="60")
    server.headers = headers
    server.wait_until_ready(iris.manifest.release)
    load = SteadyLoad(server, headers)
    try:
        for number in range(CHANGES):
            wanted = (iris_second, iris)[number % 2]
            if number % 4 < 2:
                database.deploy(wanted)
            else:
                answer = httpx.post(
                    f"{server.url}/deployments/rollback",
                    json={"reason": f"change {number}", "release": wanted.manifest.release},
                    headers=headers,
                )
                assert answer.status_code == 201, answer.text
            server.wait_until_ready(wanted.manifest.release)
        seen_by_clients = set(load.answered.values())
    finally:
        load.is_ending = True
        code = server.stop()
        load.join()

    assert code == 0, server.output()
    assert not load.failures
    assert seen_by_clients == {iris.manifest.release, iris_second.manifest.release}
    rows = database.rows("SELECT prediction_id, release FROM predictions")
    assert len(rows) == len(load.answered) > CHANGES
    assert {row.prediction_id: row.release for row in rows} == load.answered
    assert not list((tmp_path / "data" / "serving_spool").iterdir())
    assert len(database.history()) == CHANGES + 2
    assert "load_failed" not in {row.event for row in database.history()}
