"""A release with every type of column, over every protocol, down to the tables."""

import json
import struct
from typing import Any

import httpx
import pytest

from mlops_for_mle.database.schema import ensure_observations
from mlops_for_mle.serving.context import Services
from tests.mixed import MIXED_CONTRACT
from tests.mixed import MIXED_ROW as ROW
from tests.serving.conftest import Database, call, error_paths, make, wait_until

pytestmark = pytest.mark.integration

REQUIRED = {name: ROW[name] for name in ('the "plan"', "가입일")}


@pytest.fixture
def services(settings, database: Database, mixed):
    made = make(settings, mixed, ship_seconds=0.05)
    made.log.start()
    yield made
    made.log.stop(5)


def post(services: Services, path: str, body: Any) -> httpx.Response:
    return call(services, "POST", path, json=body)


def test_what_may_be_missing_may_be_null_or_left_out(services):
    absent = post(services, "/predict", REQUIRED)
    null = post(services, "/predict", dict.fromkeys(ROW) | REQUIRED)

    assert absent.status_code == null.status_code == 200
    assert absent.json()["probabilities"] == null.json()["probabilities"]


def test_a_class_is_answered_by_its_text_and_its_name(services):
    one = post(services, "/predict", ROW).json()
    columns = post(services, "/predict", {"columns": {name: [v] for name, v in ROW.items()}}).json()
    records = post(services, "/invocations", {"dataframe_records": [ROW]}).json()

    assert one["label"] == {"stays": "유지", "leaves": "해지"}[one["churn"]]
    assert set(one["probabilities"]) == {"유지", "해지"}
    assert columns["columns"]["churn"] == records["predictions"] == [one["churn"]]


def test_tensors_of_each_feature_are_answered_in_json_and_binary(services):
    one, path = post(services, "/predict", ROW).json(), "/v2/models/churn/infer"
    inputs = call(services, "GET", "/v2/models/churn").json()["inputs"]
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
        post(services, path, {"inputs": plain}),
        call(services, "POST", path, content=head + packed, headers=length),
    ):
        assert answer.status_code == 200, answer.text
        outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        assert (outputs["churn"], outputs["label"]) == ([one["churn"]], [one["label"]])
    assert inputs[0] == {"name": "월 요금", "datatype": "FP64", "shape": [-1]}
    assert (kinds["is new"], kinds['the "plan"']) == ("BOOL", "BYTES")


def test_feedback_takes_the_classes_text_or_name(services, database):
    first, second = (post(services, "/predict", ROW).json()["prediction_id"] for _ in range(2))
    wait_until(lambda: len(database.rows("SELECT 1 FROM predictions")) == 2)

    by_value = post(services, "/feedback", {"prediction_id": first, "label": "leaves"})
    by_label = post(services, "/feedback", {"prediction_id": second, "label": "해지"})
    wrong = post(services, "/feedback", {"prediction_id": second, "label": 1})

    for answer in (by_value, by_label):
        assert answer.status_code == 201, answer.text
        assert (answer.json()["value"], answer.json()["label"]) == ("leaves", "해지")
    assert database.rows("SELECT DISTINCT target, label FROM feedback") == [(1.0, "해지")]
    assert error_paths(wrong) == ["label"]


def test_observations_are_created_changed_and_read(services, database):
    database.run(f'DROP TABLE IF EXISTS "{MIXED_CONTRACT.table}"')
    ensure_observations(database.url, MIXED_CONTRACT)

    created = post(services, "/observations", ROW | {"left?": "해지"})
    sparse = post(services, "/observations", REQUIRED | {"left?": "stays"})

    assert created.status_code == 201, created.text
    assert sparse.status_code == 201, sparse.text
    body = created.json()
    expected = ROW | {"left?": "leaves", "last seen": "2025-12-31T13:10:00Z"}
    assert {name: body[name] for name in expected} == expected
    assert sparse.json()["월 요금"] is None
    changed = call(
        services,
        "PATCH",
        created.headers["location"],
        json={"is new": None, "가입일": "2024-01-01", "월 요금": 1.5},
        headers={"If-Match": "*"},
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["is new"], changed.json()["월 요금"]) == (None, 1.5)
    refused = post(services, "/observations", ROW | {"left?": "?", "가입일": "x", "is new": "no"})
    assert error_paths(refused) == ["is new", "가입일", "left?"]
