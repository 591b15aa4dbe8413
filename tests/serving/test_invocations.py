"""MLflow's scoring protocol, compared with MLflow's own server for the same model."""

import json
import math
from functools import partial
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.pyfunc import scoring_server
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlops_for_mle.serving.settings import ServingSettings
from tests.serving.conftest import IRIS_ROW, Client, ask

NAMES = list(IRIS_ROW)
ROW = list(IRIS_ROW.values())
SMALL = [5.1, 3.5, 1.4, 0.2]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in (ROW, SMALL)]
COLUMNS = {name: [record[name] for record in RECORDS] for name in NAMES}
CSV = pd.DataFrame(RECORDS).to_csv(index=False)
JSON = "application/json"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Asks MLflow's server, whose model gives the same classes."""
    folder = str(tmp_path_factory.mktemp("model") / "model")
    rows, classes = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(rows, classes)
    features = pd.DataFrame(RECORDS)
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=mlflow.models.infer_signature(features, model.predict(features.to_numpy())),
        pip_requirements=[],
        serialization_format="cloudpickle",
    )
    return partial(ask, scoring_server.init(mlflow.pyfunc.load_model(folder)))


@pytest.fixture(scope="module")
def ours(tmp_path_factory, iris) -> Client:
    folder = tmp_path_factory.mktemp("ours")
    return Client(ServingSettings(spool=folder, api_keys_file=folder / "keys.json"), iris)


def split(**changes: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": NAMES, "data": [ROW, SMALL]} | changes}


def without_first(record: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != NAMES[0]}


SAME = (
    split(index=[5, 6]),
    split(columns=[*NAMES, "z"], data=[[*ROW, "a"]]),
    split(columns=NAMES[::-1], data=[ROW[::-1]]),
    split(data=[["a", *ROW[1:]]]),
    split(data=[ROW, ROW[:2]]),
    split(columns=[*NAMES, NAMES[0]], data=[[*ROW, 1.0]]),
    {"dataframe_records": RECORDS},
    {"dataframe_records": [RECORDS[0], without_first(RECORDS[1])]},
    {"dataframe_records": []},
    {"dataframe_records": IRIS_ROW},
    {"instances": RECORDS},
    {"instances": [ROW, SMALL]},
    {"inputs": COLUMNS},
    {"inputs": IRIS_ROW},
    {"inputs": {name: [str(value)] for name, value in IRIS_ROW.items()}},
    {"inputs": RECORDS, "foo": 1},
    {"inputs": COLUMNS, "params": {"threshold": 1}},
    {"inputs": RECORDS, "instances": RECORDS},
    {},
    3,
    {"inputs": {name: [math.nan] for name in NAMES}},
)
OTHERS = (
    *((text, "text/csv") for text in ("\ufeff" + CSV, "", "a,b\n1,2\n")),
    *((CSV.replace("5.1", one), "text/csv") for one in ("abc", "", "NaN")),
    (CSV, "text/csv; charset=UTF-8"),
    (pd.DataFrame(RECORDS).to_csv(), "text/csv"),
    (CSV + "1,2\n", "text/csv"),
    (b"\xff\xfe", "text/csv"),
    ('{"a', JSON),
)


@pytest.mark.parametrize(
    ("body", "content_type"), [*((json.dumps(one), JSON) for one in SAME), *OTHERS]
)
def test_a_body_is_answered_as_mlflow_answers_it(ours, theirs, body, content_type):
    request = {"content": body, "headers": {"content-type": content_type}}

    expected = theirs("POST", "/invocations", **request)
    answer = ours.post("/invocations", **request)

    assert answer.status_code == expected.status_code, answer.text
    if expected.status_code == 200:
        assert answer.headers["content-type"] == expected.headers["content-type"]
        assert len(answer.headers["x-prediction-id"]) == 36
        assert answer.headers["x-model-version"] == "1"
        assert answer.json() == expected.json()
    else:
        assert set(answer.json()) == {"error_code", "message"}
        assert ErrorCode.Value(answer.json()["error_code"])


@pytest.mark.parametrize(
    ("body", "content_type", "told"),
    [
        # MLflow takes it.
        (
            json.dumps({"inputs": COLUMNS | {"petal_width": [1, 99]}}),
            JSON,
            "inputs.petal_width[1]: is too large, found 99",
        ),
        (json.dumps(split(columns=NAMES[1:], data=[ROW[1:]])), JSON, f"{NAMES[0]}: is missing"),
        (json.dumps(split(data=[ROW] * 9000 + [3])), JSON, "data[9000]: is no row, found 3"),
        (pd.DataFrame(RECORDS)[NAMES[1:]].to_csv(), "text/csv", f"{NAMES[0]}: is missing"),
    ],
)
def test_what_the_contract_forbids_is_named(ours, body, content_type, told):
    answer = ours.post("/invocations", content=body, headers={"content-type": content_type})

    assert answer.status_code == 400
    assert told in answer.json()["message"]
