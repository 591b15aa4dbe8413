"""``POST /explain``, and what answers say of values outside the training, on the shipped tables."""

import json
from datetime import UTC, datetime
from functools import cache

import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_diabetes

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, plain_rows
from mlops_for_mle.paths import project_path
from mlops_for_mle.releases.manifest import Manifest, Release, release_name
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.serving.context import Services
from tests.pipelines.data_ingestion.observations import batch_of
from tests.pipelines.training.examples import assemble
from tests.releases import iris_rows, trained_iris_release
from tests.serving.conftest import IRIS_ROW, call, kept, make
from tests.serving.test_metrics import samples

TABLES = {
    "base": ({"estimator": {"name": "svc"}, "calibrate": False}, "answer"),
    "subscriptions": ({"threshold": "auto"}, "probability"),
    "diabetes": ({}, "value"),
}


@cache
def trained(table: str) -> tuple[Release, pd.DataFrame]:
    """What training and deployment make of a shipped table, and its rows."""
    path = project_path() / "conf" / table / "contract.yml"
    contract = Contract.model_validate(yaml.safe_load(path.read_text("utf-8"))["contract"])
    if table == "base":
        rows = iris_rows()
    elif table == "diabetes":
        rows = load_diabetes(as_frame=True).frame
    else:
        raw = pd.read_csv(project_path() / "data/01_raw/subscriptions.csv")
        rows = batch_of(contract, raw).accepted
    candidate = assemble(rows, contract, **TABLES[table][0])
    facts = {"version": 1, "run_id": "run1", "created_at": datetime.now(UTC)}
    name = release_name(contract.name, 1, "run1")
    manifest = Manifest(**dict(candidate.description), release=name, **facts)
    return Release.checked(manifest, candidate.predictor.model), rows


def row_of(release: Release, rows: pd.DataFrame, place: int) -> dict[str, object]:
    contract = release.manifest.contract
    (values,) = plain_rows(rows.iloc[[place]], contract)
    return dict(zip(contract.features, values, strict=True))


@pytest.fixture
def services(settings) -> Services:
    return make(settings, trained_iris_release())


@pytest.mark.parametrize("table", TABLES)
def test_contributions_lead_from_the_mean_of_the_background_to_the_answer(settings, table):
    release, rows = trained(table)
    services, contract = make(settings, release), release.manifest.contract
    given = [row_of(release, rows, place) for place in range(0, 60, 20)]

    answers = call(services, "POST", "/explain", json=given).json()

    background = pd.DataFrame(release.manifest.background, columns=list(contract.features))
    base = load(release).predict(encode_rows(background, contract))
    assert len(background) == 50
    assert len(kept(services)) == 0
    predicted = call(services, "POST", "/predict", json=given).json()
    for one, other in zip(answers, predicted, strict=True):
        found = one.pop("explanation")
        assert list(found["contributions"]) == list(contract.features)
        total = found["base"] + sum(found["contributions"].values())
        assert total == pytest.approx(found["value"], rel=1e-6, abs=1e-6)
        assert found["explained"] == TABLES[table][1]
        answer = other[contract.target.response_name]
        if found["explained"] == "value":
            expected = answer, base.values.mean()
        elif found["explained"] == "answer":
            expected = 1, (base.values == contract.target.codes[answer]).mean()
        else:
            place = contract.target.class_values.index(answer)
            expected = other["probabilities"][other["label"]], base.probabilities[:, place].mean()
        assert (found["value"], found["base"]) == pytest.approx(expected, abs=1e-5)
        del other["prediction_id"]
        assert one == other


def test_training_describes_its_rows_for_explanations():
    release, rows = trained("subscriptions")
    manifest = release.manifest

    known = set(map(tuple, plain_rows(rows, manifest.contract)))
    assert known.issuperset(manifest.background)
    shares = pd.DataFrame(load(release).predict(encode_rows(rows, manifest.contract)).probabilities)
    background = pd.DataFrame(manifest.background, columns=list(manifest.contract.features))
    of_background = load(release).predict(encode_rows(background, manifest.contract)).probabilities
    assert of_background.mean(axis=0) == pytest.approx(shares.mean().to_numpy(), abs=0.02)
    assert set(manifest.importance) == set(manifest.contract.features)
    assert max(manifest.importance.values()) > 0.01
    assert Manifest.model_validate_json(manifest.to_json()) == manifest
    # A row of the background is one line, and the rest is readable, too.
    assert json.dumps(manifest.background[7], ensure_ascii=False) in manifest.to_json().decode()


def test_one_row_is_explained_by_an_object_and_a_wrong_one_is_a_problem(services):
    answer = call(services, "POST", "/explain", json=IRIS_ROW)
    wrong = call(services, "POST", "/explain", json=IRIS_ROW | {"petal_width": "wide"})

    assert answer.json()["label"] == "virginica"
    assert answer.json()["explanation"]["explained"] == "probability"
    assert wrong.status_code == 422
    assert [one["path"] for one in wrong.json()["errors"]] == ["petal_width"]


@pytest.mark.parametrize(
    "body", [[IRIS_ROW] * 101, {"columns": {name: [one] for name, one in IRIS_ROW.items()}}]
)
def test_what_is_no_row_and_no_short_list_is_refused(services, body):
    answer = call(services, "POST", "/explain", json=body)

    assert answer.status_code == 422
    assert "a list of up to 100" in answer.json()["detail"]


def test_an_answer_tells_what_lies_outside_the_training_only_where_it_does(services):
    wide = IRIS_ROW | {"petal_width": 9.0, "sepal_length": 0.5}

    def predict(body, path="/predict"):
        return call(services, "POST", path, json=body).json()

    first, second = predict([IRIS_ROW, wide])
    for inside in (predict(IRIS_ROW), first):
        assert "outside_training" not in inside
    for one in (second, *(predict(wide, path) for path in ("/predict", "/explain"))):
        assert one["outside_training"] == ["sepal_length", "petal_width"]
    columns = {name: [one, wide[name], wide[name]] for name, one in IRIS_ROW.items()}
    told = predict({"columns": columns})["outside_training"]
    assert told == {"sepal_length": [1, 2], "petal_width": [1, 2]}
    assert predict(wide, "/predict/preview")["outside_training"] == ["sepal_length", "petal_width"]
    predict({"inputs": [wide]}, "/invocations")

    counted = {
        dict(labels)["feature"]: value
        for (name, *labels), value in samples(services).items()
        if name == "mlops_outside_training_total"
    }

    # Of what is kept: a row, one of a list, two of columns and one by another protocol.
    assert {name: one for name, one in counted.items() if one} == {
        "sepal_length": 5,
        "petal_width": 5,
    }
