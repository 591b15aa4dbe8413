"""A release with every type of column, over every protocol, down to the tables."""

import codecs
import json
import math
import struct

import pytest

from mlops_for_mle.database.schema import ensure_observations
from tests.mixed import MIXED_CONTRACT
from tests.mixed import MIXED_ROW as ROW
from tests.serving.conftest import Client, error_paths, wait_until

pytestmark = pytest.mark.integration

REQUIRED = {name: ROW[name] for name in ('the "plan"', "가입일")}


@pytest.fixture
def client(settings, mixed) -> Client:
    return Client(settings, mixed)


def test_nan_is_null_and_a_byte_order_mark_is_nothing_for_every_protocol(client):
    expected, json_type = client.predict(REQUIRED), {"content-type": "application/json"}
    for missing in (None, math.nan):
        row = dict.fromkeys(ROW, missing) | REQUIRED
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


def test_a_class_is_answered_by_its_text_and_its_name(client):
    one = client.predict(ROW)
    columns = client.predict({"columns": {name: [value] for name, value in ROW.items()}})
    records = client.post("/invocations", json={"dataframe_records": [ROW]}).json()

    assert one["label"] == {"stays": "유지", "leaves": "해지"}[one["churn"]]
    assert set(one["probabilities"]) == {"유지", "해지"}
    assert columns["columns"]["churn"] == records["predictions"] == [one["churn"]]


def test_tensors_of_each_feature_are_answered_in_json_and_binary(client):
    one, path = client.predict(ROW), "/v2/models/churn/infer"
    inputs = client.get("/v2/models/churn").json()["inputs"]
    kinds = {tensor["name"]: tensor["datatype"] for tensor in inputs}
    kinds |= {"select": "INT64", "region code": "INT64"}
    plain, binary, packed = [], [], b""
    for name, value in ROW.items():
        tensor = {"name": name, "datatype": kinds[name], "shape": [1]}
        plain.append(tensor | {"data": [value]})
        data = str(value).encode()
        if (code := {"FP64": "<d", "INT64": "<q", "BOOL": "<?"}.get(kinds[name])) is not None:
            data = struct.pack(code, value)
        else:
            data = struct.pack("<I", len(data)) + data
        binary.append(tensor | {"parameters": {"binary_data_size": len(data)}})
        packed += data
    head = json.dumps({"inputs": binary}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}

    for answer in (
        client.post(path, json={"inputs": plain}),
        client.post(path, content=head + packed, headers=length),
    ):
        assert answer.status_code == 200, answer.text
        outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        assert (outputs["churn"], outputs["label"]) == ([one["churn"]], [one["label"]])
    assert inputs[0] == {"name": "월 요금", "datatype": "FP64", "shape": [-1]}
    assert (kinds["is new"], kinds['the "plan"']) == ("BOOL", "BYTES")


def test_feedback_takes_the_classes_text_or_name(start_client, mixed, database):
    client = start_client(mixed)
    first, second = (one["prediction_id"] for one in client.predict([ROW, ROW]))
    wait_until(lambda: database.count("predictions") == 2)

    for name, label in ((first, "leaves"), (second, "해지")):
        answer = client.post("/feedback", json={"prediction_id": name, "label": label})
        assert answer.status_code == 201, answer.text
        assert (answer.json()["value"], answer.json()["label"]) == ("leaves", "해지")
    wrong = client.post("/feedback", json={"prediction_id": second, "label": 1})
    assert error_paths(wrong) == ["label"]
    assert database.rows("SELECT DISTINCT target, label FROM feedback") == [(1.0, "해지")]


def test_observations_are_created_changed_and_read(client, database):
    database.run(f'DROP TABLE IF EXISTS "{MIXED_CONTRACT.table}"')
    ensure_observations(database.url, MIXED_CONTRACT)

    created = client.post("/observations", json=ROW | {"left?": "해지"})
    sparse = client.post("/observations", json=REQUIRED | {"left?": "stays"})

    assert (created.status_code, sparse.status_code) == (201, 201), created.text + sparse.text
    expected = ROW | {"left?": "leaves", "last seen": "2025-12-31T13:10:00Z"}
    assert created.json() == created.json() | expected
    assert sparse.json()["월 요금"] is None
    change = {"is new": None, "가입일": "2024-01-01", "월 요금": 1.5}
    location = created.headers["location"]
    changed = client.patch(location, json=change, headers={"If-Match": "*"})
    assert changed.status_code == 200, changed.text
    assert changed.json() == created.json() | change
    wrong = ROW | {"left?": "?", "가입일": "x", "is new": "no"}
    assert error_paths(client.post("/observations", json=wrong)) == ["is new", "가입일", "left?"]
