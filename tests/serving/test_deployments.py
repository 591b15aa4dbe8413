from pathlib import Path

import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.serving.test_access import Client, bearer

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


def test_the_history_is_read_in_pages(client, admin):
    first = client("GET", "/deployments?limit=1", headers=admin).json()
    second = client("GET", "/deployments?limit=1&before=2", headers=admin).json()

    assert [one["id"] for one in first["deployments"]] == [2]
    assert [one["id"] for one in second["deployments"]] == [1]
    assert second["current"] == 2


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
    "body", [{}, {"reason": " "}, {"reason": "a\x00"}, {"reason": "x", "to": 1}, [], 7]
)
def test_a_wrong_body_is_a_problem_document(client, admin, body):
    answer = client("POST", "/deployments/rollback", json=body, headers=admin)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_database_the_history_is_not_available(settings, iris, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hidden@127.0.0.1:1/nothing")

    answer = Client(settings, iris)("GET", "/deployments")

    assert answer.status_code == 503
    assert '"127.0.0.1", port 1 failed' in answer.json()["detail"]
    assert "hidden" not in answer.text


def test_a_running_server_follows_a_rollback(
    start_server, database, store, iris, iris_second, tmp_path
):
    import httpx

    key = KeyFile(tmp_path / "conf" / "local" / "api_keys.json").create("kim", ["admin"])
    for release in (iris, iris_second):
        store.publish(release)
        database.deploy(release)
    server = start_server(DATABASE_URL=database.url)
    server.headers = bearer(key)
    server.wait_until_ready(iris_second.manifest.release)

    answer = httpx.post(
        f"{server.url}/deployments/rollback", json={"reason": "x"}, headers=bearer(key)
    )

    assert answer.status_code == 201
    server.wait_until_ready(iris.manifest.release)
    assert server.stop() == 0
