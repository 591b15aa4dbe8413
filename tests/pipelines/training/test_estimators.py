"""Which estimators can be configured, and the search for their parameters."""

import logging
from typing import Any

import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.estimators import search_parameters
from mlops_for_mle.pipelines.training.options import TrainingOptions
from tests.pipelines.training.examples import LINE_CONTRACT, fit, line_rows, split
from tests.releases import IRIS_CONTRACT, iris_rows

SVC = {"name": "svc"}
NEIGHBOURS = {"class_path": "sklearn.neighbors.KNeighborsClassifier"}


def search(
    estimator: dict[str, Any],
    rows: pd.DataFrame | None = None,
    contract: Contract = IRIS_CONTRACT,
    **options: Any,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """A search, on iris unless told otherwise: the best combination, and all."""
    usual = {"folds": 3, "scoring": "accuracy", "engine": {"scheduler": "threads"}}
    training = TrainingOptions.model_validate({"estimator": estimator, "search": usual | options})
    examples = split(iris_rows() if rows is None else rows, contract)
    found, trials = search_parameters(examples, training, training.search)
    return found.parameters, trials


@pytest.mark.parametrize(
    ("contract", "found"),
    [
        (IRIS_CONTRACT, {"class_path": "sklearn.datasets.load_iris"}),
        (LINE_CONTRACT, {"class_path": "sklearn.svm.SVC", "name": "ridge"}),
        (LINE_CONTRACT, {"name": "svc"}),
    ],
)
def test_what_is_no_estimator_for_the_task_is_refused_with_those_that_are(contract, found):
    named, rows = next(iter(found.values())), iris_rows()
    others = "logistic, svc" if contract is IRIS_CONTRACT else "ridge, random_forest"

    with pytest.raises(ConfigurationError, match=f"found {named}; .* choose {others}"):
        fit(found, rows, contract)


def test_random_combinations_are_as_many_as_wanted_and_the_same_for_a_seed():
    space = {"C": [0.1, 0.2, 0.4, 0.8, 1.6], "gamma": [0.1, 1.0]}

    first, second = (search(SVC, space=space, maximum_trials=3)[1] for _ in range(2))

    assert len(first) == 3
    assert first[["C", "gamma"]].equals(second[["C", "gamma"]])


def test_a_combination_that_cannot_be_scored_never_wins_and_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        best, trials = search(NEIGHBOURS, space={"n_neighbors": [999, 5, -1]})

    assert best == {"n_neighbors": 5}
    assert trials["mean_test_score"].isna().tolist() == [False, True, True]
    assert "does not count: {'n_neighbors': 999}" in caplog.text


def test_a_score_that_is_not_defined_in_a_fold_decides_nothing():
    # R2 needs two rows, and each of fifteen folds of fifteen rows has one.
    options: dict[str, Any] = {"space": {"alpha": [1e9, 0.1]}, "scoring": "r2", "folds": 15}

    with pytest.raises(UserError, match=r"training\.search: r2 is not defined .* 15 folds"):
        search({}, line_rows(15), LINE_CONTRACT, **options)
