"""What a snapshot must be like before a model is trained on it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training import nodes, snapshots
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
from tests.pipelines.training.examples import LINE_CONTRACT, line_rows, snapshot
from tests.releases import SMALL_CONTRACT, encoded

# Two numbers, for a test of classes or of numbers.
FEATURES = {"features": {"width": {}, "height": {}}}
CONTRACTS = {
    one.target.task: one.model_validate(one.model_dump() | FEATURES)
    for one in (SMALL_CONTRACT, LINE_CONTRACT)
}


def table(count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two classes that overlap in each feature and part along the diagonal."""
    random = np.random.default_rng(seed)
    width, height = random.normal(size=(2, count))
    kind = (width + height + random.normal(scale=0.2, size=count) > 0).astype(int)
    return pd.DataFrame({"width": width, "height": height, "kind": kind, "y": width + height})


def check(
    rows: pd.DataFrame, task: str = "classification", **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """What is found, and what is wrong."""
    chosen = DataCheckOptions.model_validate(options)
    return snapshots.check(*encoded(rows, CONTRACTS[task]), CONTRACTS[task], chosen)


@pytest.mark.filterwarnings("error")
def test_a_sound_table_passes_every_check() -> None:
    found, wrong = check(table())

    assert wrong == []
    assert found["distinct_rows_by_class"].keys() == {"no", "yes"}


def test_too_few_rows_are_told_and_repeated_ones_count_once() -> None:
    rows = table()
    keep = (rows.kind == 0) | (rows.index < rows.index[rows.kind == 1][3])

    assert check(pd.concat([table(20)] * 10, ignore_index=True), minimum_rows=30)[1] == [
        "it has 20 distinct rows, 30 are needed: ingest more, or lower data_checks.minimum_rows"
    ]
    assert check(rows[keep].reset_index(drop=True))[1] == [
        "class yes has 3 distinct rows, 5 are needed: ingest more, or lower "
        "data_checks.minimum_rows_per_class"
    ]


@pytest.mark.parametrize(
    ("task", "target", "height"),
    [
        ("classification", "kind", lambda rows: rows.kind * 2.0 + np.linspace(0, 0.1, len(rows))),
        # A copy with few values.
        ("classification", "kind", lambda rows: np.where(rows.kind == 1, 7.0, 3.0)),
        # A refund of nothing, whatever the others were.
        ("classification", "kind", lambda rows: rows.kind * (100.0 + np.arange(len(rows)))),
        ("regression", "y", lambda rows: rows.y * 2.0 + 1),
    ],
    ids=["near copy", "copy", "zero in one class", "regression"],
)
def test_a_feature_that_holds_the_answer_is_leakage(task: str, target: str, height: Any) -> None:
    rows = table().assign(height=height)

    (problem,) = check(rows, task)[1]

    assert problem.startswith(f"height alone tells {target} (cross-validated score ")
    assert check(rows, task, allowed_predictors=["height"])[1] == []
    assert check(rows, task, maximum_single_feature_score=None)[1] == []


def test_a_column_of_identifiers_is_no_leakage() -> None:
    rows = table().assign(height=np.arange(400.0))

    assert check(rows)[0]["single_feature_scores"]["height"] < 0.7


def test_rows_that_are_not_fit_stop_the_training() -> None:
    rows = snapshot(line_rows().assign(y=1.0), LINE_CONTRACT)

    with pytest.raises(UserError, match="a table is not fit to train on: y has the same value in"):
        nodes.prepare_examples(rows, LINE_CONTRACT, TrainingOptions(), DataCheckOptions())


def test_gates_of_another_task_are_refused_before_anything_is_fitted() -> None:
    rows = snapshot(table(), CONTRACTS["classification"])
    contract, options = CONTRACTS["classification"], TrainingOptions()

    with pytest.raises(
        ConfigurationError, match=r"gates\.metric: rmse .* one of accuracy, .*brier"
    ):
        nodes.prepare_examples(rows, contract, options, DataCheckOptions(), "rmse")
