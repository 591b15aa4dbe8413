"""``POST /predict`` and what the routes beside it say of the release in service."""

import json
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.serving.answers import texts_of
from mlops_for_mle.serving.context import Services
from tests.releases import trained_iris_release
from tests.serving.conftest import IRIS_ROW, call, kept, make, serve

ROWS = [IRIS_ROW, dict.fromkeys(IRIS_ROW, 1)]


@pytest.fixture
def empty(settings) -> Services:
    return make(settings)


@pytest.fixture
def services(settings, iris: Release) -> Services:
    return make(settings, iris)


def predict(services: Services, body):
    return call(services, "POST", "/predict", json=body)


def test_one_row_is_answered_as_the_tutorial_does_with_everything_else_beside_it(services, iris):
    answer = predict(services, IRIS_ROW)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["iris_class"], body["label"], body["model_version"]) == (2, "virginica", 1)
    assert body["release"] == iris.manifest.release
    assert UUID(body["prediction_id"]).version == 7
    expected = load(iris).predict(np.array([list(IRIS_ROW.values())])).probabilities
    assert expected is not None
    assert list(body["probabilities"]) == ["setosa", "versicolor", "virginica"]
    assert list(body["probabilities"].values()) == pytest.approx(expected[0].tolist())


def test_a_list_of_rows_is_answered_by_a_list_of_the_same_answers(services):
    answers = predict(services, ROWS).json()

    alone = [predict(services, row).json() for row in ROWS]
    ids = [answer.pop("prediction_id") for answer in answers]
    for answer, other in zip(answers, alone, strict=True):
        del other["prediction_id"]
        assert answer.pop("probabilities") == pytest.approx(other.pop("probabilities"))
        assert list(answer.items()) == list(other.items())
    request_id = ids[0].removesuffix("-0")
    assert UUID(request_id).version == 7
    assert ids == [f"{request_id}-0", f"{request_id}-1"]


def test_many_rows_are_answered_and_logged_as_each_of_them(settings):
    services = make(settings, trained_iris_release())
    # The model answers them in parts; some lie outside of what it was trained on.
    rows = [dict.fromkeys(IRIS_ROW, 1 + at % 80 / 10) for at in range(5000)]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}

    listed = predict(services, rows).json()
    found = predict(services, {"columns": columns}).json()

    first = listed[0]["prediction_id"].removesuffix("-0")
    assert [one.pop("prediction_id") for one in listed] == [f"{first}-{at}" for at in range(5000)]
    for at in (0, 1, 2047, 2048, 4095, 4096, 4999):
        one = predict(services, rows[at]).json()
        del one["prediction_id"]
        # A model of float32 rounds rows otherwise by where they stand.
        assert one.pop("probabilities") == pytest.approx(listed[at]["probabilities"], rel=1e-4)
        assert all(listed[at][name] == value for name, value in one.items())
    for name in ("iris_class", "label"):
        assert found["columns"][name] == [one[name] for one in listed]
    chances = {
        label: [one["probabilities"][label] for one in listed]
        for label in listed[0]["probabilities"]
    }
    assert found["columns"]["probabilities"] == chances
    for name, places in found["outside_training"].items():
        is_outside = [name in one.get("outside_training", ()) for one in listed]
        assert places == [at for at, is_so in enumerate(is_outside) if is_so]
    for line, body in zip(kept(services), (rows, {"columns": columns}), strict=False):
        assert json.loads(line[-2]) == body
        assert line[7] == "{" + ",".join(str(one["iris_class"]) for one in listed) + "}"
        logged = [float(one) for one in line[-1].strip("{}").split(",")]
        assert logged == [chance for column in chances.values() for chance in column]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@given(
    values=arrays(
        np.float64,
        st.integers(1, 20),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
)
def test_numbers_are_written_so_that_the_model_s_own_are_read_again(precision, values):
    values = values.astype(precision)
    texts = texts_of(values, np.stack([values, -values], axis=1))

    found = [np.array(json.loads(b"[%b]" % text), precision) for text in texts]
    np.testing.assert_array_equal(found, [values, values, -values])


def test_a_float32_model_is_not_given_digits_that_it_does_not_know():
    (text,) = texts_of(np.array([0.1], np.float32), None)

    assert text == b"0.1"


def test_a_wrong_row_is_a_problem_document(services):
    answer = predict(services, IRIS_ROW | {"petal_width": 20})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    error = {"path": "petal_width", "message": "is too large", "given": "20"}
    assert answer.json() == {
        "type": "about:blank",
        "title": answer.json()["title"],
        "status": 422,
        "detail": "petal_width: is too large, found 20; allowed: a number from 0 to 10",
        "errors": [error | {"allowed": "a number from 0 to 10"}],
    }


def test_a_failure_of_the_server_says_nothing_of_its_inside(services, monkeypatch):
    monkeypatch.setattr(type(services.metrics), "predicted", None)

    answer = predict(services, IRIS_ROW)

    assert answer.status_code == 500
    assert "NoneType" not in answer.text


def test_wrong_methods_and_paths_are_problem_documents(empty):
    for method, path, status in (
        ("GET", "/predict", 405),
        ("GET", "/nowhere", 404),
        ("PUT", "/predict", 405),
    ):
        answer = call(empty, method, path)
        assert answer.status_code == answer.json()["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert status == 404 or answer.headers["allow"] == "POST"


def test_without_a_release_the_process_is_live_and_not_ready(empty):
    assert call(empty, "GET", "/health/live").json() == {"status": "live"}
    for method, path in (
        *(("GET", "/health/ready"), ("GET", "/ping"), ("GET", "/model"), ("POST", "/predict")),
        *(("POST", "/invocations"), ("POST", "/v2/models/iris/infer")),
    ):
        answer = call(empty, method, path, json=IRIS_ROW if method == "POST" else None)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        assert path == "/ping" or "has not asked the database yet" in answer.text, path


def test_the_openapi_document_says_what_readiness_answers(services):
    answer, document = (
        call(services, "GET", "/health/ready").json(),
        call(services, "GET", "/openapi.json").json(),
    )

    told = document["paths"]["/health/ready"]["get"]["responses"]
    reference = {"$ref": "#/components/schemas/Readiness"}
    for status in ("200", "503"):
        assert told[status]["content"]["application/json"]["schema"] == reference
    assert list(document["components"]["schemas"]["Readiness"]["properties"]) == list(answer)


def test_the_model_in_service_is_described(services, iris):
    body = call(services, "GET", "/model").json()

    assert body["release"] == iris.manifest.release
    assert body["model"]["run_id"] == "run1"
    assert body["model"]["metrics"] == {"validation_accuracy": 0.97}
    assert (body["model"]["calibrated"], body["model"]["threshold"]) == (False, None)
    assert list(body["contract"]["features"]) == list(IRIS_ROW)
    assert body["deployment"]["id"] == 1


def test_the_openapi_document_follows_the_release_in_service(services, houses: Release):
    def schemas() -> tuple[dict, dict]:
        document = call(services, "GET", "/openapi.json").json()
        found = document["components"]["schemas"]
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        first = content["application/json"]["schema"]["oneOf"][0]
        assert first == {"$ref": "#/components/schemas/Row"}
        return found["Row"], found["Answer"]

    row, answer = schemas()
    assert row["required"] == list(IRIS_ROW)
    assert row["properties"]["petal_width"]["maximum"] == 10
    assert answer["properties"]["iris_class"]["enum"] == [0, 1, 2]

    services.releases.serve(serve(houses))
    row, answer = schemas()
    assert row["properties"]["방 수"]["multipleOf"] == 1
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

    for path, content in (
        ("/predict", [IRIS_ROW] * rows if rows > 1 else IRIS_ROW),
        ("/invocations", {"instances": [IRIS_ROW] * rows}),
        ("/predict/preview", IRIS_ROW),
    ):
        answer = call(services, "POST", path, json=content)

        assert answer.status_code == 500
        detail = answer.json().get("detail") or answer.json()["message"]
        assert "predicted 2, which is none of the classes of contract iris" in detail
    assert not kept(services)
