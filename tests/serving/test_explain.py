"""``POST /explain``, and what answers say of values outside the training, on the shipped tables."""

from datetime import UTC, datetime
from functools import cache

import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_diabetes

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, plain_rows
from mlops_for_mle.releases.manifest import Manifest, Release, release_name
from mlops_for_mle.releases.predictor import Predictions, load_predictor
from tests import PROJECT
from tests.pipelines.data_ingestion.observations import batch_of
from tests.pipelines.training.examples import assemble
from tests.releases import iris_rows, trained_iris_release
from tests.serving.conftest import IRIS_ROW, Client, error_paths

TABLES = {
    "base": ({"estimator": {"name": "svc"}, "calibrate": False}, "answer"),
    "subscriptions": ({"threshold": "auto"}, "probability"),
    "diabetes": ({}, "value"),
}


@cache
def trained(table: str) -> tuple[Release, pd.DataFrame]:
    """What training and deployment make of a shipped table, and its rows."""
    path = PROJECT / "conf" / table / "contract.yml"
    contract = Contract.model_validate(yaml.safe_load(path.read_text("utf-8"))["contract"])
    if table == "base":
        rows = iris_rows()
    elif table == "diabetes":
        rows = load_diabetes(as_frame=True).frame
    else:
        raw = pd.read_csv(PROJECT / "data/01_raw/subscriptions.csv")
        rows = batch_of(contract, raw).accepted
    candidate = assemble(rows, contract, **TABLES[table][0])
    facts = {"version": 1, "run_id": "run1", "created_at": datetime.now(UTC)}
    name = release_name(contract.name, 1, "run1")
    manifest = Manifest(**dict(candidate.description), release=name, **facts)
    return Release(manifest=manifest, model=candidate.predictor.model), rows


def answers_to(release: Release, rows: pd.DataFrame) -> Predictions:
    return load_predictor(release).predict(encode_rows(rows, release.manifest.contract))


def background_of(release: Release) -> pd.DataFrame:
    manifest = release.manifest
    return pd.DataFrame(manifest.background, columns=list(manifest.contract.features))


@pytest.fixture
def client(settings) -> Client:
    return Client(settings, trained_iris_release())


@pytest.mark.parametrize("table", TABLES)
def test_contributions_lead_from_the_mean_of_the_background_to_the_answer(settings, table):
    release, rows = trained(table)
    client, contract = Client(settings, release), release.manifest.contract
    values = plain_rows(rows.iloc[[0, 20, 40]], contract)
    given = [dict(zip(contract.features, one, strict=True)) for one in values]

    answers = client.post("/explain", json=given).json()

    base = answers_to(release, background_of(release))
    assert len(base.values) == 50
    assert len(client.kept()) == 0
    for one, other in zip(answers, client.predict(given), strict=True):
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
            place = [*contract.target.codes].index(answer)
            expected = other["probabilities"][other["label"]], base.probabilities[:, place].mean()
        assert (found["value"], found["base"]) == pytest.approx(expected, abs=1e-5)
        del other["prediction_id"]
        assert one == other


def test_training_describes_its_rows_for_explanations():
    release, rows = trained("subscriptions")
    manifest = release.manifest

    known = set(map(tuple, plain_rows(rows, manifest.contract)))
    assert known.issuperset(manifest.background)
    shares, of_background = (
        answers_to(release, one).probabilities.mean(axis=0)
        for one in (rows, background_of(release))
    )
    assert of_background == pytest.approx(shares, abs=0.02)
    assert set(manifest.importance) == set(manifest.contract.features)
    assert max(manifest.importance.values()) > 0.01
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_one_row_is_explained_by_an_object_and_a_wrong_one_is_a_problem(client):
    answer = client.post("/explain", json=IRIS_ROW).json()

    assert (answer["label"], answer["explanation"]["explained"]) == ("virginica", "probability")
    columns = {"columns": {name: [one] for name, one in IRIS_ROW.items()}}
    wide = IRIS_ROW | {"petal_width": "wide"}
    for wrong, path in ((wide, "petal_width"), ([IRIS_ROW] * 101, ""), (columns, "columns")):
        assert error_paths(client.post("/explain", json=wrong)) == [path]


def test_an_answer_tells_what_lies_outside_the_training_only_where_it_does(client):
    wide = IRIS_ROW | {"petal_width": 9.0, "sepal_length": 0.5}
    columns = {name: [one, wide[name], wide[name]] for name, one in IRIS_ROW.items()}

    first, second = client.predict([IRIS_ROW, wide])
    for inside in (client.predict(), first):
        assert "outside_training" not in inside
    unkept = client.post("/explain", json=wide).json()
    for one in (second, client.predict(wide), unkept):
        assert one["outside_training"] == ["sepal_length", "petal_width"]
    told = client.predict({"columns": columns})["outside_training"]
    assert told == {"sepal_length": [1, 2], "petal_width": [1, 2]}
    client.post("/invocations", json={"inputs": [wide]})

    counted = {
        dict(labels)["feature"]: value
        for (name, *labels), value in client.samples().items()
        if name == "mlops_outside_training_total" and value
    }
    # Of what is kept: a row, one of a list, two of columns and one by another protocol.
    assert counted == {"sepal_length": 5, "petal_width": 5}
