import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.serving.conftest import Client, bearer

pytestmark = pytest.mark.integration


class Admin(Client):
    """A client that may do everything."""

    def history(self) -> dict[str, Any]:
        return self("GET", "/deployments", headers=self.headers).json()

    def roll_back(self, body: Any) -> httpx.Response:
        return self("POST", "/deployments/rollback", json=body, headers=self.headers)


@pytest.fixture
def admin(settings, database, store, iris, iris_second) -> Admin:
    for release in (iris, iris_second):
        store.publish(release)
        database.deploy(release)
    key = KeyFile(settings.api_keys_file).create("kim", ["admin"])
    found = Admin(settings, iris_second, model="iris")
    found.headers = bearer(key)
    return found


def test_the_history_names_what_is_current_and_how_good_each_release_is(
    admin, database, iris, iris_second
):
    database.deploy(iris, event="load_failed")

    body = admin.history()

    assert (body["contract"], body["current"]) == ("iris", 2)
    events = [(one["id"], one["event"]) for one in body["deployments"]]
    assert events == [(3, "load_failed"), (2, "deploy"), (1, "deploy")]
    assert [(one["release"], one["is_current"]) for one in body["releases"]] == [
        (iris_second.manifest.release, True),
        (iris.manifest.release, False),
    ]
    assert body["releases"][1]["metrics"] == {"validation_accuracy": 0.97}


def test_a_rollback_is_one_more_row_with_reason_and_the_name_of_the_key(
    admin, database, iris, iris_second
):
    answer = admin.roll_back({"reason": "it drifts", "current_deployment": 2})

    assert answer.status_code == 201
    row = database.history()[0]
    assert (row.id, row.event, row.release) == (3, "rollback", iris.manifest.release)
    assert (row.reason, row.actor) == ("it drifts", "API key kim")
    assert (row.model_version, row.run_id) == (1, iris.manifest.run_id)
    assert answer.json()["id"] == 3
    for release in (iris_second.manifest.release, iris.manifest.release, None):
        # A page that has not noticed: also where there is nothing to go back to, or it is there.
        stale = admin.roll_back({"reason": "x", "release": release, "current_deployment": 2})
        assert stale.status_code == 409
        assert "has come in between" in stale.json()["detail"]
    assert len(database.history()) == 3


def test_only_an_earlier_release_that_is_whole_can_be_gone_back_to(
    admin, database, store, iris, iris_second
):
    def refusal(release: str) -> str:
        answer = admin.roll_back({"reason": "x", "release": release})
        assert answer.status_code == 409
        return answer.json()["detail"]

    for release in (iris_second.manifest.release, "../../etc"):
        assert f"expected one of {iris.manifest.release} " in refusal(release)
        assert f"{iris_second.manifest.release} is served now" in refusal(release)
    admin.history()
    path = Path(store.url) / "iris" / iris.manifest.release / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    assert "was altered" in refusal(iris.manifest.release)
    assert len(database.history()) == 2


@pytest.mark.parametrize(
    "body", [{}, {"reason": " "}, {"reason": "a\x00"}, {"reason": "x", "to": 1}, []]
)
def test_a_wrong_body_is_a_problem_document(admin, body):
    answer = admin.roll_back(body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_history_is_told_without_the_models(admin, store, iris, iris_second):
    folder = Path(store.url) / "iris"
    for release in (iris, iris_second):
        (folder / release.manifest.release / "model.onnx").unlink()

    first = admin.history()
    shutil.rmtree(folder)

    assert admin.history() == first
    assert [one["problem"] for one in first["releases"]] == [None, None]
    assert [one["estimator"] for one in first["releases"]] == ["LogisticRegression"] * 2


def test_a_store_that_does_not_answer_is_told(admin, database, store):
    folder = Path(store.url)
    folder.rename(folder.with_name("elsewhere"))
    folder.write_bytes(b"")

    refused = admin.roll_back({"reason": "x"})

    assert all("cannot be read" in one["problem"] for one in admin.history()["releases"])
    assert refused.status_code == 409
    assert "cannot be read" in refused.json()["detail"]
    assert len(database.history()) == 2
