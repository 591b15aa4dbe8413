"""The steps of a training, from rows to what is logged."""

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import encode
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import nodes
from mlops_for_mle.pipelines.training.options import DataCheckOptions
from mlops_for_mle.releases.manifest import ModelDescription, sha256_of
from mlops_for_mle.releases.metrics import GREATER_IS_BETTER
from mlops_for_mle.releases.predictor import Predictor
from tests.mixed import MIXED_CONTRACT, MIXED_REGRESSION, mixed_rows
from tests.pipelines.training.examples import (
    LINE_CONTRACT,
    Window,
    assemble,
    encoded,
    fit,
    iris_rows,
    line_rows,
)
from tests.releases import IRIS_CONTRACT

SVC = {"class_path": "sklearn.svm.SVC"}


@pytest.fixture(scope="module")
def candidate() -> nodes.Candidate:
    return assemble(iris_rows(with_key=True), IRIS_CONTRACT, estimator=SVC)


def test_iris_is_learned_well_and_better_than_a_constant_answer(
    candidate: nodes.Candidate,
) -> None:
    metrics = candidate.description.metrics

    assert set(metrics) == {
        f"{part}_{metric}"
        for part in ("training", "validation", "baseline")
        for metric in GREATER_IS_BETTER["classification"]
    }
    assert metrics["validation_accuracy"] >= 0.93
    assert metrics["baseline_accuracy"] == pytest.approx(1 / 3, abs=0.01)


def test_the_same_rows_give_the_same_description_and_the_same_graph(
    candidate: nodes.Candidate,
) -> None:
    again = assemble(iris_rows(with_key=True), IRIS_CONTRACT, estimator=SVC)

    assert again.description == candidate.description
    assert again.predictor.model == candidate.predictor.model


def test_the_description_tells_of_the_graph_the_rows_and_how_to_train_it_again(
    candidate: nodes.Candidate,
) -> None:
    description = candidate.description

    assert description.model_sha256 == sha256_of(candidate.predictor.model)
    assert description.model_bytes == len(candidate.predictor.model)
    assert description.estimator == "SVC"
    assert (description.snapshot.row_count, description.snapshot.watermark) == (150, 150)
    assert ModelDescription.model_validate_json(description.model_dump_json()) == description
    again = assemble(iris_rows(with_key=True), description.contract, **description.training)
    assert again.description == description


@pytest.mark.parametrize(
    ("contract", "estimator", "measured"),
    [
        (
            MIXED_CONTRACT,
            "LogisticRegression",
            {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "brier"},
        ),
        (MIXED_REGRESSION, "Ridge", {"rmse", "mae", "r2"}),
    ],
    ids=["classes", "numbers"],
)
def test_a_table_of_all_types_is_trained_on_with_nothing_chosen(
    contract: Contract, estimator: str, measured: set[str]
) -> None:
    candidate = assemble(mixed_rows(), contract)
    nodes.draw_plots(candidate)

    description = candidate.description
    assert description.estimator == estimator
    for part in ("training", "validation", "baseline"):
        found = {name.removeprefix(f"{part}_") for name in description.metrics}
        assert found >= measured
    better = 1 if "accuracy" in measured else -1
    metric = "accuracy" if better == 1 else "rmse"
    gained = description.metrics[f"validation_{metric}"] - description.metrics[f"baseline_{metric}"]
    assert better * gained > 0
    columns = dict(zip(contract.features, zip(*description.example.rows, strict=True), strict=True))
    served = Predictor(candidate.predictor.model, contract)
    answers = served.predict(encode(columns, contract))
    assert len(description.example.rows) == nodes.EXAMPLE_ROWS
    np.testing.assert_allclose(answers.values, description.example.predictions, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "contract", "message"),
    [
        (
            iris_rows().query("target == 1").reset_index(drop=True),
            IRIS_CONTRACT,
            "a table is not fit to train on: class setosa has 0 distinct rows, 5 are needed: .*"
            "class virginica has 0 distinct rows",
        ),
        (line_rows().assign(y=1.0), LINE_CONTRACT, "y has the same value in all 120 rows"),
    ],
    ids=["classes", "numbers"],
)
def test_rows_that_are_not_fit_are_told_before_training(
    rows: pd.DataFrame, contract: Contract, message: str
) -> None:
    snapshot = nodes.take_snapshot(Window("a table", rows), contract)

    with pytest.raises(UserError, match=message):
        nodes.check_snapshot(snapshot, contract, DataCheckOptions())


def test_an_unknown_category_counts_as_none_of_the_known_ones() -> None:
    rows = mixed_rows()
    columns = fit({}, rows, MIXED_CONTRACT).named_steps["columns"]
    unknown = rows.head(2).assign(channel=["phone", "fax"])

    transformed = columns.transform(encoded(unknown, MIXED_CONTRACT)[0])
    known = columns.transform(encoded(unknown.assign(channel="web"), MIXED_CONTRACT)[0])

    assert (~np.isclose(transformed, known)).sum(axis=1).tolist() == [1, 1]
