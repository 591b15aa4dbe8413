import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from tests.serving.conftest import IRIS_ROW, Client, counted, error_paths, serve, wait_until

pytestmark = pytest.mark.integration


class Labels(Client):
    """A client that predicts and tells labels."""

    def tell(self, prediction_id: str, label: Any, **more: Any) -> httpx.Response:
        body = {"prediction_id": prediction_id, "label": label, **more}
        return self("POST", "/feedback", json=body)

    def predict(self, body: Any = IRIS_ROW) -> str:
        """Wait until the prediction is in the table."""
        name = self("POST", "/predict", json=body).json()["prediction_id"]
        wait_until(lambda: counted(self.services, "spool_shipped_total"))
        return name


@pytest.fixture
def client(settings, database, iris):
    made = Labels(settings, iris, ship_seconds=0.05)
    made.services.log.start()
    yield made
    made.services.log.stop(5)


def test_a_late_label_is_joined_to_its_prediction(client, database):
    prediction_id = client.predict()
    database.run("UPDATE predictions SET created_at = now() - interval '3 days'")

    answer = client.tell(prediction_id, "versicolor")

    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("created_at")
    assert body == {
        "prediction_id": prediction_id,
        "value": 1,
        "label": "versicolor",
        "revision": 1,
        "is_joined": True,
    }
    joined = database.rows(
        "SELECT p.label, f.label, f.target FROM predictions p JOIN feedback f "
        "ON f.prediction_id = p.prediction_id AND f.superseded_at IS NULL",
    )
    assert joined == [("virginica", "versicolor", 1.0)]


def test_the_same_label_changes_nothing_and_another_must_be_a_correction_with_history(
    client, database
):
    prediction_id = client.predict()
    first = client.tell(prediction_id, 2)

    again = client.tell(prediction_id, "virginica")
    correction = client.tell(prediction_id, 2, correction=True)

    assert (again.status_code, correction.status_code) == (200, 200)
    assert again.json() == correction.json() == first.json()
    conflict = client.tell(prediction_id, 1)
    corrected = client.tell(prediction_id, 1, correction=True)

    assert conflict.status_code == 409
    assert "virginica" in conflict.json()["detail"]
    assert corrected.status_code == 201
    assert corrected.json()["revision"] == 2
    kept = "SELECT revision, target, superseded_at IS NULL FROM feedback ORDER BY revision"
    assert database.rows(kept) == [(1, 2.0, False), (2, 1.0, True)]
    assert client.tell(prediction_id, 2).status_code == 409


def test_of_different_labels_at_once_one_is_kept(client, database):
    prediction_id = client.predict()

    with ThreadPoolExecutor(9) as threads:
        told = threads.map(lambda label: client.tell(prediction_id, label), [0, 1, 2] * 3)
        statuses = [one.status_code for one in told]

    assert sorted(statuses) == [200, 200, 201, 409, 409, 409, 409, 409, 409]
    assert len(database.rows("SELECT 1 FROM feedback")) == 1


def test_a_regression_takes_numbers_and_for_predictions_of_its_contract_only(
    client, database, houses
):
    of_iris = client.predict()
    client.services.releases.serve(serve(houses))
    of_houses = client.predict({"방 수": 3, "area m2": 50})
    wait_until(lambda: len(database.rows("SELECT 1 FROM predictions")) == 2)

    assert error_paths(client.tell(of_houses, "cheap")) == ["label"]
    answer = client.tell(of_houses, 151.5)
    refused = client.tell(of_iris, 2)

    assert answer.status_code == 201
    assert (answer.json()["value"], answer.json()["label"]) == (151.5, None)
    assert error_paths(refused) == ["prediction_id"]
    assert "contract iris" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"prediction_id": "abc"}, "prediction_id"),
        ({"prediction_id": 7}, "prediction_id"),
        ({"prediction_id": "0198c0de-0000-4000-8000-000000000000"}, "prediction_id"),
        ({"label": 3}, "label"),
        ({"label": True}, "label"),
        ({"label": None}, "label"),
        ({"correction": 1}, "correction"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_field_is_named(client, database, changes, path):
    body = {"prediction_id": str(uuid7()), "label": 1} | changes

    assert error_paths(client("POST", "/feedback", json=body)) == [path]
    assert database.rows("SELECT 1 FROM feedback") == []


def at(days: float) -> str:
    """An id of a prediction that was answered so many days ago."""
    milliseconds = f"{int((time.time() - days * 86_400) * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}{str(uuid7())[13:]}"


@pytest.mark.parametrize("days", [0.1, 400, -1])
def test_an_id_that_the_log_should_have_is_refused(client, database, days):
    answer = client.tell(at(days), 2)

    assert error_paths(answer) == ["prediction_id"]
    assert "is not in the prediction log" in answer.json()["detail"]
    assert database.rows("SELECT 1 FROM feedback") == []


def test_a_label_for_what_still_waits_in_the_spool_is_kept_however_old_it_is(client, database):
    client.services.log.stop(5)
    waiting = client.services.log.root / f"{int((time.time() - 7 * 86_400) * 1e9):020d}-1-abcd.log"
    waiting.touch()

    assert client.tell(at(6), 2).status_code == 202
    assert client.tell(at(9), 2).status_code == 422


def test_a_row_that_its_request_did_not_have_is_refused_at_once(client, database):
    one = client.predict()
    many = client("POST", "/predict", json=[IRIS_ROW] * 2).json()
    wait_until(lambda: len(database.rows("SELECT 1 FROM predictions")) == 3)

    for unknown in (f"{one}-0", many[0]["prediction_id"].removesuffix("0") + "2"):
        answer = client.tell(unknown, 2)
        assert answer.status_code == 422, unknown
        assert "is not in the prediction log" in answer.json()["detail"]
    assert client.tell(many[1]["prediction_id"], 2).status_code == 201


def test_without_the_database_it_is_503_and_predictions_go_on(client, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    assert client.tell(str(uuid7()), 2).status_code == 503
    assert client("POST", "/predict", json=IRIS_ROW).status_code == 200
