"""Deployments and rollbacks, then the end of the server, while clients go on asking."""

from pathlib import Path

import httpx
import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import Load, bearer, wait_until

pytestmark = pytest.mark.integration

CHANGES = 20


def test_twenty_deployments_and_rollbacks_and_sigterm_fail_no_request_and_lose_no_prediction(
    start_serving, database, tmp_path: Path, iris, iris_second
):
    server = start_serving(iris_second, iris, MLOPS_SHIP_SECONDS="60")
    key = KeyFile(tmp_path / "conf" / "local" / "api_keys.json").create("tests", ["admin"])
    # Who has no key is answered until the server has read the file.
    wait_until(lambda: server.get("/deployments").status_code == 401)
    server.headers = bearer(key)
    load = Load(server, pause=0.02)
    try:
        for number in range(CHANGES):
            wanted = (iris_second, iris)[number % 2]
            if number % 4 < 2:
                database.deploy(wanted)
            else:
                answer = httpx.post(
                    f"{server.url}/deployments/rollback",
                    json={"reason": f"change {number}", "release": wanted.manifest.release},
                    headers=server.headers,
                )
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
    assert not list((tmp_path / "data" / "serving_spool").iterdir())
    assert len(database.history()) == CHANGES + 2
    assert "load_failed" not in {row.event for row in database.history()}
