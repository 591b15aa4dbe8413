from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import checks, nodes
from mlops_for_mle.pipelines.training.options import DataCheckOptions
from tests.pipelines.training.examples import Window, encoded

CLASSES = [{"value": value, "label": label} for value, label in enumerate(("a", "b"))]


def contract(task: str = "classification") -> Contract:
    return Contract.model_validate(
        {
            "name": "things",
            "table": "things",
            "features": {"width": {}, "height": {}},
            "target": {
                "column": "kind",
                "task": task,
                "response_name": "kind_found",
                "classes": CLASSES if task == "classification" else [],
            },
        }
    )


def table(count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two classes that overlap in each feature and part along the diagonal."""
    random = np.random.default_rng(seed)
    width, height = random.normal(size=(2, count))
    kind = (width + height + random.normal(scale=0.2, size=count) > 0).astype(int)
    return pd.DataFrame({"width": width, "height": height, "kind": kind})


def check(
    rows: pd.DataFrame, task: str = "classification", **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """What is found, and what is wrong."""
    chosen = DataCheckOptions.model_validate(options)
    return checks.check(*encoded(rows, contract(task)), contract(task), chosen)


def problems(rows: pd.DataFrame, task: str = "classification", **options: Any) -> list[str]:
    return check(rows, task, **options)[1]


@pytest.mark.filterwarnings("error")
def test_a_sound_table_passes_every_check():
    found, wrong = check(table())

    assert wrong == []
    assert found["distinct_rows_by_class"].keys() == {"a", "b"}


def test_repeated_rows_count_once():
    rows = pd.concat([table(20)] * 10, ignore_index=True)

    assert problems(rows, minimum_rows=30) == [
        "it has 20 distinct rows, 30 are needed: ingest more, or lower data_checks.minimum_rows"
    ]


def test_a_class_with_too_few_rows_is_named():
    rows = table()
    keep = (rows.kind == 0) | (rows.index < rows.index[rows.kind == 1][3])

    assert problems(rows[keep].reset_index(drop=True)) == [
        "class b has 3 distinct rows, 5 are needed: ingest more, or lower "
        "data_checks.minimum_rows_per_class"
    ]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_feature_that_holds_the_answer_is_leakage(task):
    rows = table()
    if task == "regression":
        rows["kind"] = rows.width + rows.height
        rows["height"] = rows.kind * 2.0 + 1
    else:
        rows["height"] = rows.kind * 2.0 + np.linspace(0, 0.1, len(rows))

    (problem,) = problems(rows, task)

    assert problem.startswith("height alone tells kind (cross-validated score")
    assert problems(rows, task, allowed_predictors=["height"]) == []
    assert problems(rows, task, maximum_single_feature_score=None) == []


@pytest.mark.parametrize("values", [(0.0, 1.0), (7.0, 3.0)])
def test_a_copy_of_the_target_is_leakage_though_it_has_few_values(values):
    rows = table()
    rows["height"] = np.where(rows.kind == 1, *values)

    (problem,) = problems(rows)

    assert problem.startswith("height alone tells kind (cross-validated score 1.0000)")


def test_a_column_of_identifiers_is_no_leakage():
    rows = table()
    rows["height"] = np.arange(len(rows), dtype=float)

    assert check(rows)[0]["single_feature_scores"]["height"] < 0.7


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_share_of_wrong_labels_is_estimated(share):
    rows = table(2_000)
    clean = check(rows)[0]["label_noise"]
    flipped = np.random.default_rng(1).random(len(rows)) < share
    rows.loc[flipped, "kind"] = 1 - rows.kind[flipped]

    noise = check(rows, maximum_label_noise=None)[0]["label_noise"]

    assert clean < 0.03
    assert share / 3 < noise < share * 1.3


def test_more_wrong_labels_than_allowed_stop_the_training():
    rows = table(1_000)
    flipped = np.random.default_rng(1).random(len(rows)) < 0.2
    rows.loc[flipped, "kind"] = 1 - rows.kind[flipped]
    snapshot = nodes.take_snapshot(Window("things", rows), contract())

    with pytest.raises(UserError, match=r"things is not fit to train on: about \d+% of the labels"):
        nodes.check_snapshot(snapshot, contract(), DataCheckOptions(maximum_label_noise=0.05))
