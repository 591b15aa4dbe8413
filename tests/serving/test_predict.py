"""``POST /predict`` and what the routes beside it say of the release in service."""

import json
from uuid import UUID

import numpy as np
import pytest

from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.serving.context import Services
from tests.serving.conftest import IRIS_ROW, call, kept, make, serve

JSON = {"content-type": "application/json"}


@pytest.fixture
def services(settings) -> Services:
    return make(settings)


def test_one_row_is_answered_as_the_tutorial_does_with_everything_else_beside_it(
    services, iris: Release
):
    services.releases.serve(serve(iris))

    answer = call(services, "POST", "/predict", json=IRIS_ROW)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["iris_class"] == 2
    assert body["label"] == "virginica"
    assert body["model_version"] == 1
    assert body["release"] == iris.manifest.release
    assert UUID(body["prediction_id"]).version == 7
    expected = load(iris).predict(np.array([list(IRIS_ROW.values())])).probabilities
    assert expected is not None
    assert list(body["probabilities"]) == ["setosa", "versicolor", "virginica"]
    assert list(body["probabilities"].values()) == pytest.approx(expected[0].tolist())


def test_a_list_of_rows_is_answered_by_a_list_of_the_same_answers(services, iris: Release):
    services.releases.serve(serve(iris))
    rows = [IRIS_ROW, dict.fromkeys(IRIS_ROW, 1)]

    answers = call(services, "POST", "/predict", json=rows).json()

    alone = [call(services, "POST", "/predict", json=row).json() for row in rows]
    ids = [answer.pop("prediction_id") for answer in answers]
    for answer, other in zip(answers, alone, strict=True):
        del other["prediction_id"]
        assert answer.pop("probabilities") == pytest.approx(other.pop("probabilities"))
        assert answer == other
    request_id = ids[0].removesuffix("-0")
    assert UUID(request_id).version == 7
    assert ids == [f"{request_id}-0", f"{request_id}-1"]


def test_columns_are_answered_by_columns(services, iris: Release):
    services.releases.serve(serve(iris))
    rows = [IRIS_ROW, dict.fromkeys(IRIS_ROW, 1)]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}

    body = call(services, "POST", "/predict", json={"columns": columns}).json()

    (line,) = kept(services)
    listed = call(services, "POST", "/predict", json=rows).json()
    assert body["columns"]["iris_class"] == [one["iris_class"] for one in listed]
    assert body["columns"]["label"] == [one["label"] for one in listed]
    for label, column in body["columns"]["probabilities"].items():
        assert column == [one["probabilities"][label] for one in listed]
    assert list(listed[0]) == list(call(services, "POST", "/predict", json=IRIS_ROW).json())
    assert body["prediction_id"] == line[3]
    assert json.loads(line[-2]) == {"columns": columns}
    assert body["model_version"] == 1
    assert body["release"] == iris.manifest.release


def test_a_wrong_row_is_a_problem_document(services, iris: Release):
    services.releases.serve(serve(iris))

    answer = call(services, "POST", "/predict", json=IRIS_ROW | {"petal_width": 20})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": answer.json()["title"],
        "status": 422,
        "detail": "petal_width: is too large, found 20; allowed: a number from 0 to 10",
        "errors": [
            {
                "path": "petal_width",
                "message": "is too large",
                "given": "20",
                "allowed": "a number from 0 to 10",
            }
        ],
    }


def test_a_failure_of_the_server_says_nothing_of_its_inside(services, iris: Release, monkeypatch):
    services.releases.serve(serve(iris))
    monkeypatch.setattr(type(services.metrics), "predicted", None)

    answer = call(services, "POST", "/predict", json=IRIS_ROW)

    assert answer.status_code == 500
    assert "NoneType" not in answer.text


def test_wrong_methods_and_paths_are_problem_documents(services):
    wrong_method = call(services, "GET", "/predict")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    for answer in (
        wrong_method,
        call(services, "GET", "/nowhere"),
        call(services, "PUT", "/predict"),
    ):
        assert answer.status_code in {404, 405}
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def test_without_a_release_the_process_is_live_and_not_ready(services):
    assert call(services, "GET", "/health/live").json() == {"status": "live"}
    for method, path in (("GET", "/health/ready"), ("GET", "/model"), ("POST", "/predict")):
        answer = call(services, method, path, json=IRIS_ROW if method == "POST" else None)
        assert answer.status_code == 503, path
        assert "has not asked the database yet" in answer.json()["detail"]


def test_the_model_in_service_is_described(services, iris: Release):
    services.releases.serve(serve(iris))

    body = call(services, "GET", "/model").json()

    assert body["release"] == iris.manifest.release
    assert body["model"]["run_id"] == "run1"
    assert body["model"]["metrics"] == {"validation_accuracy": 0.97}
    assert (body["model"]["calibrated"], body["model"]["threshold"]) == (False, None)
    assert list(body["contract"]["features"]) == list(IRIS_ROW)
    assert body["deployment"]["id"] == 1


def test_the_openapi_document_follows_the_release_in_service(
    services, iris: Release, houses: Release
):
    def predict_schemas() -> tuple[dict, dict]:
        schemas = call(services, "GET", "/openapi.json").json()["components"]["schemas"]
        return schemas["Row"], schemas["Answer"]

    services.releases.serve(serve(iris))
    request, answer = predict_schemas()
    assert request["required"] == list(IRIS_ROW)
    assert request["properties"]["petal_width"]["maximum"] == 10
    assert answer["properties"]["iris_class"]["enum"] == [0, 1, 2]

    services.releases.serve(serve(houses))
    request, answer = predict_schemas()
    assert request["properties"]["방 수"]["multipleOf"] == 1
    assert answer["required"] == ["price", "model_version", "release"]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("values", [(0, 1, 4), (-1, 0, 1)])
def test_a_class_that_the_contract_does_not_have_is_never_answered_or_recorded(
    services, iris: Release, rows, values
):
    # The graph knows the classes 0, 1 and 2; its example shows only those that the contract has.
    raw = iris.manifest.model_dump()
    for one, value in zip(raw["contract"]["target"]["classes"], values, strict=True):
        one["value"] = value
    example = raw["example"]
    shown = [index for index, value in enumerate(example["predictions"]) if value in values]
    raw["example"] = {name: [given[index] for index in shown] for name, given in example.items()}
    manifest = type(iris.manifest).model_validate(raw)
    services.releases.serve(serve(Release(manifest=manifest, model=iris.model)))
    body = [IRIS_ROW] * rows if rows > 1 else IRIS_ROW

    for path, content in (
        ("/predict", body),
        ("/invocations", {"instances": [IRIS_ROW] * rows}),
        ("/predict/preview", IRIS_ROW),
    ):
        answer = call(services, "POST", path, json=content)

        assert answer.status_code == 500
        detail = answer.json().get("detail") or answer.json()["message"]
        assert "predicted 2, which is none of the classes of contract iris" in detail
    assert not kept(services)
