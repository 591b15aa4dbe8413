import json
import shutil
from pathlib import Path

import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import Client, bearer

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(settings) -> dict[str, str]:
    return bearer(KeyFile(settings.api_keys_file).create("kim", ["admin"]))


@pytest.fixture
def client(settings, admin, database, store, iris, iris_second) -> Client:
    for release in (iris, iris_second):
        store.publish(release)
        database.deploy(release)
    return Client(settings, iris_second, model="iris")


def test_the_history_names_what_is_current_and_how_good_each_release_is(
    client, admin, iris, iris_second
):
    body = client("GET", "/deployments", headers=admin).json()

    assert (body["contract"], body["current"]) == ("iris", 2)
    assert [one["id"] for one in body["deployments"]] == [2, 1]
    assert [one["release"] for one in body["releases"]] == [
        iris_second.manifest.release,
        iris.manifest.release,
    ]
    assert [one["is_current"] for one in body["releases"]] == [True, False]
    assert body["releases"][1]["metrics"] == {"validation_accuracy": 0.97}


def test_a_rollback_is_one_more_row_with_reason_and_the_name_of_the_key(
    client, admin, database, iris
):
    body = {"reason": "it drifts", "current_deployment": 2}

    answer = client("POST", "/deployments/rollback", json=body, headers=admin)

    assert answer.status_code == 201
    row = database.history()[0]
    assert (row.id, row.event, row.release) == (3, "rollback", iris.manifest.release)
    assert (row.reason, row.actor) == ("it drifts", "API key kim")
    assert (row.model_version, row.run_id) == (1, iris.manifest.run_id)
    assert answer.json()["id"] == 3


def test_a_rollback_from_a_stale_page_does_nothing(client, admin, database, iris):
    database.deploy(iris)
    body = {"reason": "x", "current_deployment": 2}

    answer = client("POST", "/deployments/rollback", json=body, headers=admin)

    assert answer.status_code == 409
    assert "has come in between" in answer.json()["detail"]
    assert len(database.history()) == 3


def test_only_an_earlier_release_that_is_whole_can_be_gone_back_to(
    client, admin, database, settings, iris, iris_second
):
    def roll_back(release: str):
        body = {"reason": "x", "release": release}
        return client("POST", "/deployments/rollback", json=body, headers=admin)

    for refused in (roll_back(iris_second.manifest.release), roll_back("../../etc")):
        assert refused.status_code == 409
        assert f"expected one of {iris.manifest.release} " in refused.json()["detail"]
        assert f"{iris_second.manifest.release} is served now" in refused.json()["detail"]
    client("GET", "/deployments", headers=admin)
    path = Path(settings.release_store) / "iris" / iris.manifest.release / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    spoilt = roll_back(iris.manifest.release)
    assert spoilt.status_code == 409
    assert "was altered" in spoilt.json()["detail"]
    assert len(database.history()) == 2


@pytest.mark.parametrize(
    "body", [{}, {"reason": " "}, {"reason": "a\x00"}, {"reason": "x", "to": 1}, []]
)
def test_a_wrong_body_is_a_problem_document(client, admin, body):
    given = {"content": json.dumps(body), "headers": admin | {"content-type": "application/json"}}

    answer = client("POST", "/deployments/rollback", **given)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_history_is_told_without_the_models(client, admin, settings, iris, iris_second):
    folder = Path(settings.release_store) / "iris"
    for release in (iris, iris_second):
        (folder / release.manifest.release / "model.onnx").unlink()

    first = client("GET", "/deployments", headers=admin).json()
    shutil.rmtree(folder)
    again = client("GET", "/deployments", headers=admin).json()

    assert again == first
    assert [one["problem"] for one in first["releases"]] == [None, None]
    assert [one["estimator"] for one in first["releases"]] == ["LogisticRegression"] * 2


def test_a_failure_to_load_is_part_of_the_history(client, admin, database, iris):
    database.deploy(iris, event="load_failed")

    body = client("GET", "/deployments", headers=admin).json()

    assert [one["event"] for one in body["deployments"]] == ["load_failed", "deploy", "deploy"]
    assert body["current"] == 2
    assert [one["is_current"] for one in body["releases"]] == [True, False]


def test_a_store_that_does_not_answer_is_told(client, admin, database, settings):
    folder = Path(settings.release_store)
    folder.rename(folder.with_name("elsewhere"))
    folder.write_bytes(b"")

    listed = client("GET", "/deployments", headers=admin)
    refused = client("POST", "/deployments/rollback", json={"reason": "x"}, headers=admin)

    assert listed.status_code == 200
    assert all("cannot be read" in one["problem"] for one in listed.json()["releases"])
    assert refused.status_code == 409
    assert "cannot be read" in refused.json()["detail"]
    assert len(database.history()) == 2
