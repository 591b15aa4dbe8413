import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_for_mle.database.engine import engine_for, lock
from tests.servers import waiting_for_a_lock
from tests.serving.conftest import Client, Load, make_key, wait_until

CHANGES = 8


class Admin(Client):
    """A client that may do everything."""

    def history(self) -> dict[str, Any]:
        return self.get("/deployments").json()

    def roll_back(self, **body: Any) -> httpx.Response:
        return self.post("/deployments/rollback", json=body)

    def refusal(self, **body: Any) -> str:
        answer = self.roll_back(reason="x", **body)
        assert answer.status_code == 409
        return answer.json()["detail"]


@pytest.fixture
def admin(settings, deploy, iris, iris_second) -> Admin:
    deploy(iris, iris_second)
    headers = make_key(settings, "admin", name="kim")
    found = Admin(settings, iris_second, model="iris")
    found.headers = headers
    return found


def test_the_history_names_what_is_current_what_a_rollback_goes_to_and_how_good_each_is(
    admin, iris, iris_second
):
    first, second = iris.manifest.release, iris_second.manifest.release
    body = admin.history()

    assert (body["contract"], body["current"], body["previous"]) == ("iris", 2, first)
    events = [(one["id"], one["event"]) for one in body["deployments"]]
    assert events == [(2, "deploy"), (1, "deploy")]
    shown = [(one["release"], one["is_current"]) for one in body["releases"]]
    assert shown == [(second, True), (first, False)]
    assert body["releases"][1]["metrics"] == {"validation_accuracy": 0.97}


def test_a_rollback_is_one_more_row_with_reason_and_the_name_of_the_key(
    admin, database, iris, iris_second
):
    answer = admin.roll_back(reason="it drifts", current_deployment=2)

    assert answer.status_code == 201
    row = database.history()[0]
    assert (row.id, row.event, row.release) == (3, "rollback", iris.manifest.release)
    assert (row.reason, row.actor) == ("it drifts", "API key kim")
    assert (row.model_version, row.run_id) == (1, iris.manifest.run_id)
    assert answer.json()["id"] == 3
    # A page that has not noticed.
    stale = admin.refusal(release=iris_second.manifest.release, current_deployment=2)
    assert "has come in between" in stale
    assert len(database.history()) == 3


def test_a_rollback_that_took_too_long_to_be_answered_is_not_done(
    settings, admin, database, iris_second
):
    busy = "SELECT FROM pg_stat_activity WHERE application_name LIKE '%deploy%' AND state <> 'idle'"
    hurried = Client(settings, iris_second, model="iris", request_timeout_seconds=1.0)
    with engine_for(database.url).begin() as other:
        lock(other, "deployments of iris")
        answer = hurried.post("/deployments/rollback", json={"reason": "x"}, headers=admin.headers)
        assert answer.status_code == 504
        assert waiting_for_a_lock(database.url)

    wait_until(lambda: not database.rows(busy))
    assert len(database.history()) == 2


def test_a_wrong_body_is_a_problem_document(admin):
    for body in ({}, {"reason": " "}, {"reason": "a\x00"}, {"reason": "x", "to": 1}, []):
        answer = admin.post("/deployments/rollback", json=body)
        assert answer.status_code == 422, body
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_history_is_told_without_the_models(admin, store):
    for model in Path(store.url).glob("iris/*/model.onnx"):
        model.unlink()

    first = admin.history()
    shutil.rmtree(Path(store.url) / "iris")

    assert admin.history() == first
    assert [one["problem"] for one in first["releases"]] == [None, None]
    assert [one["estimator"] for one in first["releases"]] == ["LogisticRegression"] * 2


def test_a_store_that_does_not_answer_is_told(admin, database, store):
    folder = Path(store.url)
    folder.rename(folder.with_name("elsewhere"))
    folder.write_bytes(b"")

    assert all("cannot be read" in one["problem"] for one in admin.history()["releases"])
    assert "cannot be read" in admin.refusal()
    assert len(database.history()) == 2


def test_changes_reach_all_replicas_and_with_sigterm_fail_no_request_and_lose_no_prediction(
    start_serving, start_server, settings, database, iris, iris_second
):
    server = start_serving(iris_second, iris, MLOPS_SHIP_SECONDS="60")
    # It has the spool and the cache in common with the first.
    replica = start_server(DATABASE_URL=database.url)
    key = make_key(settings, "admin")
    # Who has no key is answered until the server has read the file.
    wait_until(lambda: server.get("/deployments").status_code == 401)
    server.headers = replica.headers = key
    load = Load(server, pause=0.02)
    try:
        for number in range(CHANGES):
            wanted = (iris_second, iris)[number % 2]
            if number % 4 < 2:
                database.deploy(wanted)
            else:
                body = {"reason": f"change {number}", "release": wanted.manifest.release}
                answer = server.post("/deployments/rollback", json=body)
                assert answer.status_code == 201, answer.text
            for one in (server, replica):
                one.wait_until_ready(wanted.manifest.release)
            body = replica.predict()
            load.answered[body["prediction_id"]] = body["release"]
    finally:
        load.is_ending = True
        replica.end()
        server.end()
        answered = load.stop()

    assert set(answered.values()) == {iris.manifest.release, iris_second.manifest.release}
    rows = database.rows("SELECT prediction_id, release FROM predictions")
    assert len(rows) == len(answered) > CHANGES
    assert {row.prediction_id: row.release for row in rows} == answered
    assert not list(settings.spool.iterdir())
    assert len(database.history()) == CHANGES + 2
