"""``POST /predict`` and what the routes beside it say of the release in service."""

import codecs
import json
import math
from unittest.mock import Mock
from uuid import UUID

import numpy as np
import pytest
from mlflow.protos.databricks_pb2 import ErrorCode

from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load_predictor
from mlops_for_mle.serving import openapi
from tests.mixed import MIXED_REQUIRED, MIXED_ROW
from tests.releases import trained_iris_release
from tests.serving.conftest import IRIS_ROW, Client, wait_until


def test_one_row_is_answered_as_the_tutorial_does_with_everything_else_beside_it(client, iris):
    answer = client.post("/predict", json=IRIS_ROW)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["iris_class"], body["label"], body["model_version"]) == (2, "virginica", 1)
    assert body["release"] == iris.manifest.release
    assert UUID(body["prediction_id"]).version == 7
    expected = load_predictor(iris).predict(np.array([list(IRIS_ROW.values())])).probabilities
    assert expected is not None
    assert list(body["probabilities"]) == ["setosa", "versicolor", "virginica"]
    # With the digits that a model of float32 knows, and no more.
    assert list(body["probabilities"].values()) == [
        float(str(one)) for one in expected[0].astype(np.float32)
    ]


def test_many_rows_are_answered_as_each_of_them(settings):
    client = Client(settings, trained_iris_release())
    # The model answers them in parts; some lie outside of what it was trained on.
    rows = [dict.fromkeys(IRIS_ROW, 1 + at % 80 / 10) for at in range(5000)]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}

    listed, found = client.predict(rows), client.predict({"columns": columns})

    first = listed[0]["prediction_id"].removesuffix("-0")
    assert UUID(first).version == 7
    assert [one.pop("prediction_id") for one in listed] == [f"{first}-{at}" for at in range(5000)]
    for at in (0, 1, 2047, 2048, 4095, 4096, 4999):
        one, (of_a_list,) = client.predict(rows[at]), client.predict([rows[at]])
        del one["prediction_id"], of_a_list["prediction_id"]
        assert list(one.items()) == list(of_a_list.items())
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


@pytest.mark.parametrize(
    ("literal", "message", "given"),
    [
        ("20", "is too large", "20"),
        ("1" * 4000, "is too large", "1" * 80),
        ("NaN", "is missing", "null"),
    ],
)
def test_a_wrong_row_is_a_problem_document(client, literal, message, given):
    body, headers = json.dumps(IRIS_ROW), {"content-type": "application/json"}

    answer = client.post("/predict", content=body.replace("5.7", literal), headers=headers)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    error = {"path": "petal_length", "message": message, "given": given}
    assert answer.json() == {
        "type": "about:blank",
        "title": answer.json()["title"],
        "status": 422,
        "detail": f"petal_length: {message}, found {given}; allowed: a number from 0 to 10",
        "errors": [error | {"allowed": "a number from 0 to 10"}],
    }


def test_wrong_methods_and_paths_are_problem_documents(client):
    for method, path, status in (
        ("GET", "/predict", 405),
        ("GET", "/nowhere", 404),
        # No redirect, which would take its host from the request.
        ("GET", "/model/", 404),
        # A key would not help.
        ("POST", "/predict/", 404),
    ):
        answer = client.request(method, path)
        assert answer.status_code == answer.json()["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert status == 404 or answer.headers["allow"] == "POST"


def test_without_a_release_and_database_the_process_is_live_and_not_ready(settings, caplog):
    empty = Client(settings)
    empty.services.start()
    wait_until(lambda: "refused" in empty.get("/health/ready").text)
    assert empty.get("/health/live").json() == {"status": "live"}
    answers = {path: empty.get(path) for path in ("/health/ready", "/ping", "/model")}
    for path in ("/predict", "/invocations", "/v2/models/iris/infer"):
        answers[path] = empty.post(path, json=IRIS_ROW)
    empty.services.stop()
    for path, answer in answers.items():
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        assert path == "/ping" or "refused" in answer.text, path
        assert "hidden" not in answer.text + caplog.text
    assert ErrorCode.Value(answers["/invocations"].json()["error_code"])


def test_the_model_in_service_is_described(client, iris):
    body = client.get("/model").json()

    assert body["release"] == iris.manifest.release
    assert body["model"]["run_id"] == "run1"
    assert body["model"]["metrics"] == {"validation_accuracy": 0.97}
    assert (body["model"]["calibrated"], body["model"]["threshold"]) == (False, None)
    assert list(body["contract"]["features"]) == list(IRIS_ROW)
    assert body["deployment"]["id"] == 1


def test_the_openapi_document_follows_the_release_in_service_and_is_made_once_for_it(
    client, houses, monkeypatch
):
    making = Mock(wraps=openapi._document)
    monkeypatch.setattr(openapi, "_document", making)

    def schemas() -> tuple[dict, dict]:
        document = client.get("/openapi.json").json()
        found = document["components"]["schemas"]
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        first = content["application/json"]["schema"]["oneOf"][0]
        assert first == {"$ref": "#/components/schemas/Row"}
        # openapi-python-client leaves out the operation whose list says nothing of its items.
        columns = found["RowColumns"]["properties"]["columns"]["properties"]
        for name, schema in found["Row"]["properties"].items():
            assert columns[name]["items"] == schema
        # A client that is generated gives nothing back where the answer is not described.
        for operation in (facts for path in document["paths"].values() for facts in path.values()):
            assert operation["responses"].get("200", {"content": True})["content"]
        health = document["paths"]["/health/ready"]["get"]["responses"]
        for status in ("200", "503"):
            told = health[status]["content"]["application/json"]["schema"]
            assert told == {"$ref": "#/components/schemas/Readiness"}
        return found["Row"], found["Answer"]

    row, answer = schemas()
    assert row["required"] == list(row["properties"]) == list(IRIS_ROW)
    # Whoever reads the document needs no key, so it holds no data.
    assert not {"example", "examples"} & row.keys()
    assert row["properties"]["petal_width"]["maximum"] == 10
    assert answer["properties"]["iris_class"]["enum"] == [0, 1, 2]

    client.serve(houses)
    row, answer = schemas()
    assert row["properties"]["방 수"]["multipleOf"] == 1
    assert answer["required"] == ["price", "model_version", "release"]
    assert schemas() == (row, answer)
    assert making.call_count == 2


def test_a_class_that_the_contract_does_not_have_is_never_answered_or_recorded(
    client, iris: Release, caplog
):
    raw = iris.manifest.model_dump()
    for one in raw["contract"]["target"]["classes"]:
        one["value"] -= 1
    # The graph knows the classes 0, 1 and 2; its example shows only those that the contract has.
    raw["example"] = {name: given[:2] for name, given in raw["example"].items()}
    manifest = type(iris.manifest).model_validate(raw)
    client.serve(Release(manifest=manifest, model=iris.model))

    for path, content in (
        ("/predict", IRIS_ROW),
        ("/invocations", {"instances": [IRIS_ROW] * 3}),
        ("/explain", IRIS_ROW),
    ):
        answer = client.post(path, json=content)

        assert answer.status_code == 500
    assert f"Release {manifest.release} predicted {{2}}" in caplog.text
    assert not client.kept()


def test_nan_is_null_and_a_byte_order_mark_is_nothing_for_every_protocol(settings, mixed):
    client = Client(settings, mixed)
    expected, json_type = client.predict(MIXED_REQUIRED), {"content-type": "application/json"}
    for missing in (None, math.nan):
        row = dict.fromkeys(MIXED_ROW, missing) | MIXED_REQUIRED
        tensors = [
            {"name": name, "datatype": "BYTES", "shape": [1], "data": [value]}
            for name, value in row.items()
        ]
        for path, body in (
            ("/predict", row),
            ("/invocations", {"inputs": [row]}),
            ("/v2/models/churn/infer", {"inputs": tensors}),
        ):
            content = codecs.BOM_UTF8 + json.dumps(body).encode()
            answer = client.post(path, content=content, headers=json_type)
            assert answer.status_code == 200, answer.text
            assert json.dumps(expected["churn"]) in answer.text
