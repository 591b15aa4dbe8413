import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from tests.mixed import MIXED_ROW
from tests.serving.conftest import IRIS_ROW, Client, error_paths, wait_until


@pytest.fixture
def client(start_client, iris) -> Client:
    return start_client(iris)


def tell(client: Client, prediction_id: str, label: Any, **more: Any) -> httpx.Response:
    body = {"prediction_id": prediction_id, "label": label, **more}
    return client.post("/feedback", json=body)


def predicted(client: Client, body: Any = IRIS_ROW) -> str:
    """The id of a prediction that is in the table."""
    before = client.counted("spool_shipped_total")
    name = client.predict(body)["prediction_id"]
    wait_until(lambda: client.counted("spool_shipped_total") > before)
    return name


def test_a_late_label_is_joined_to_its_prediction(client, database):
    prediction_id = predicted(client)
    database.run("UPDATE predictions SET created_at = now() - interval '3 days'")

    answer = tell(client, prediction_id, "versicolor")

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
        "ON f.prediction_id = p.prediction_id AND f.superseded_at IS NULL"
    )
    assert joined == [("virginica", "versicolor", 1.0)]


def test_the_same_label_changes_nothing_and_another_must_be_a_correction_with_history(
    client, database
):
    prediction_id = predicted(client)
    first = tell(client, prediction_id, 2)

    again = tell(client, prediction_id, "virginica")
    correction = tell(client, prediction_id, 2, correction=True)

    assert (again.status_code, correction.status_code) == (200, 200)
    assert again.json() == correction.json() == first.json()
    conflict = tell(client, prediction_id, 1)
    corrected = tell(client, prediction_id, 1, correction=True)

    assert conflict.status_code == 409
    assert "virginica" in conflict.json()["detail"]
    assert corrected.status_code == 201
    assert corrected.json()["revision"] == 2
    kept = "SELECT revision, target, superseded_at IS NULL FROM feedback ORDER BY revision"
    assert database.rows(kept) == [(1, 2.0, False), (2, 1.0, True)]
    assert tell(client, prediction_id, 2).status_code == 409


def test_of_different_labels_at_once_one_is_kept(client, database):
    prediction_id = predicted(client)

    with ThreadPoolExecutor(9) as threads:
        told = threads.map(lambda label: tell(client, prediction_id, label), [0, 1, 2] * 3)
        statuses = [one.status_code for one in told]

    assert sorted(statuses) == [200, 200, 201, 409, 409, 409, 409, 409, 409]
    assert database.count("feedback") == 1


def test_a_regression_takes_numbers_and_for_predictions_of_its_contract_only(client, houses):
    of_iris = predicted(client)
    client.serve(houses)
    of_houses = predicted(client, {"방 수": 3, "area m2": 50})

    assert error_paths(tell(client, of_houses, "cheap")) == ["label"]
    answer = tell(client, of_houses, 151.5)
    refused = tell(client, of_iris, 2)

    assert answer.status_code == 201
    assert (answer.json()["value"], answer.json()["label"]) == (151.5, None)
    assert error_paths(refused) == ["prediction_id"]
    assert "contract iris" in refused.json()["detail"]


def test_a_wrong_field_is_named(client, database):
    no_version_7 = "0198c0de-0000-4000-8000-000000000000"
    for name, value in (
        *(("prediction_id", one) for one in ("abc", no_version_7)),
        *(("label", one) for one in (3, True, None)),
    ):
        body = {"prediction_id": str(uuid7()), "label": 1} | {name: value}
        assert error_paths(client.post("/feedback", json=body)) == [name]
    missing = client.post("/feedback", json={"prediction_id": str(uuid7())}).json()["errors"][0]
    assert (missing["path"], missing["message"], missing["given"]) == ("label", "is missing", None)
    told = tell(client, str(uuid7()), "no such class").json()["errors"][0]["allowed"]
    assert told == "one of 0, 1, 2, or setosa, or versicolor, or virginica"
    assert database.count("feedback") == 0


def at(days: float) -> str:
    """An id of a prediction that was answered so many days ago."""
    milliseconds = f"{int((time.time() - days * 86_400) * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}{str(uuid7())[13:]}"


def test_an_id_that_the_log_should_have_is_refused(client, database):
    one = predicted(client)
    many = client.predict([IRIS_ROW] * 2)
    wait_until(lambda: database.count("predictions") == 3)
    # Rows that a request did not have, too.
    others = (f"{one}-0", many[0]["prediction_id"].removesuffix("0") + "2")

    for unknown in (at(days=0.1), at(days=400), at(days=-1), *others):
        answer = tell(client, unknown, 2)
        assert error_paths(answer) == ["prediction_id"], unknown
        assert "is not in the prediction log" in answer.json()["detail"]
    assert database.count("feedback") == 0
    assert tell(client, many[1]["prediction_id"], 2).status_code == 201


def test_a_label_for_what_still_waits_in_the_spool_is_kept_however_old_it_is(client):
    log = client.services.log
    log.stop(5)
    (log.root / f"{int((time.time() - 7 * 86_400) * 1e9):020d}-1-abcd.log").touch()

    assert tell(client, at(days=6), 2).status_code == 202
    assert tell(client, at(days=9), 2).status_code == 422


def test_feedback_takes_the_classes_text_or_name(start_client, mixed, database):
    client = start_client(mixed)
    first, second = (one["prediction_id"] for one in client.predict([MIXED_ROW, MIXED_ROW]))
    wait_until(lambda: database.count("predictions") == 2)

    for name, label in ((first, "leaves"), (second, "해지")):
        answer = client.post("/feedback", json={"prediction_id": name, "label": label})
        assert answer.status_code == 201, answer.text
        assert (answer.json()["value"], answer.json()["label"]) == ("leaves", "해지")
    wrong = client.post("/feedback", json={"prediction_id": second, "label": 1})
    assert error_paths(wrong) == ["label"]
    assert database.rows("SELECT DISTINCT target, label FROM feedback") == [(1.0, "해지")]
