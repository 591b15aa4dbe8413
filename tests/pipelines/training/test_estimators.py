"""Which estimators can be configured, and the search for their parameters."""

import logging
from typing import Any

import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training import splits
from mlops_for_mle.pipelines.training.estimators import build_estimator, search_parameters
from mlops_for_mle.pipelines.training.options import (
    EstimatorOptions,
    SearchOptions,
    TrainingOptions,
)
from tests.pipelines.training.examples import LINE_CONTRACT, encoded, iris_rows, line_rows
from tests.releases import IRIS_CONTRACT

SVC = "sklearn.svm.SVC"


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


def build(class_path: str, contract=IRIS_CONTRACT, **parameters: Any):
    options = EstimatorOptions(class_path=class_path, parameters=parameters)
    return build_estimator(options, contract, seed=7)


def search(
    model: Pipeline,
    rows: pd.DataFrame | None = None,
    contract: Contract = IRIS_CONTRACT,
    **options: Any,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Search on iris, unless told otherwise; gives the best combination and all with scores."""
    features, truth = encoded(iris_rows() if rows is None else rows, contract)
    settings = SearchOptions.model_validate({"folds": 3, "scoring": "accuracy"} | options)
    hashes = splits.row_hashes(features, 5)
    folds = splits.folds(hashes, truth, contract.target, TrainingOptions(seed=5), settings.folds)
    return search_parameters(model, features, truth, settings, folds, 5)


@pytest.mark.parametrize(
    ("contract", "found"),
    [
        (IRIS_CONTRACT, {"class_path": "sklearn.svm.SVM"}),
        (IRIS_CONTRACT, {"class_path": "sklearn.datasets.load_iris"}),
        (LINE_CONTRACT, {"class_path": SVC, "name": "ridge"}),
        (LINE_CONTRACT, {"name": "svc"}),
    ],
)
def test_what_is_no_estimator_for_the_task_is_refused_with_those_that_are(
    contract: Contract, found: dict[str, Any]
) -> None:
    others = {"classification": "logistic, svc", "regression": "ridge, random_forest"}
    named = next(iter(found.values()))

    with pytest.raises(
        ConfigurationError, match=f"found {named}; .* choose {others[contract.target.task]}"
    ):
        build_estimator(EstimatorOptions(**found), contract, seed=1)


@pytest.mark.usefixtures("in_one_process")
class TestSearch:
    def test_the_best_combination_of_the_space_is_found_and_all_are_listed(self) -> None:
        best, trials = search(build(SVC), space={"C": [1e-6, 1.0], "kernel": ["rbf"]})

        assert best == {"C": 1.0, "kernel": "rbf"}
        assert trials["C"].tolist() == [1.0, 1e-6]
        assert trials["rank_test_score"].tolist() == [1, 2]
        assert trials["mean_test_score"].iloc[0] > 0.9
        assert {"split0_test_score", "split2_test_score", "mean_fit_time"} <= set(trials)

    def test_random_combinations_are_as_many_as_wanted_and_the_same_for_a_seed(self) -> None:
        space = {"C": [0.1, 0.2, 0.4, 0.8, 1.6], "gamma": [0.1, 1.0]}

        first, second = (search(build(SVC), space=space, maximum_trials=3) for _ in range(2))

        assert first[0] == second[0]
        assert len(first[1]) == 3
        assert first[1][["C", "gamma"]].equals(second[1][["C", "gamma"]])

    def test_a_combination_that_cannot_be_scored_never_wins_and_is_told(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        neighbours = build("sklearn.neighbors.KNeighborsClassifier")

        with caplog.at_level(logging.WARNING):
            best, trials = search(neighbours, space={"n_neighbors": [999, 5, -1]})

        assert best == {"n_neighbors": 5}
        assert trials["mean_test_score"].isna().tolist() == [False, True, True]
        assert "does not count: {'n_neighbors': 999}" in caplog.text

    def test_a_score_that_is_not_defined_in_a_fold_decides_nothing(self) -> None:
        # R2 needs two rows, and each of twenty folds of twenty rows has one.
        rows = line_rows(20)
        ridge = build("sklearn.linear_model.Ridge", contract=LINE_CONTRACT)

        with pytest.raises(UserError, match=r"training\.search: r2 is not defined .* 20 folds"):
            search(ridge, rows, LINE_CONTRACT, space={"alpha": [1e9, 0.1]}, scoring="r2", folds=20)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"space": {"C": [1.0], "depth": [3]}}, "Invalid parameter 'depth'"),
            ({"space": {"C": [-1.0]}}, "'C' parameter of SVC must be"),
            ({"space": {"C": [1.0]}, "scoring": "beauty"}, "'scoring' parameter"),
        ],
    )
    def test_a_mistake_is_told_as_scikit_learn_tells_it(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            search(build(SVC), **options)

        assert "Traceback" not in str(caught.value)

    def test_an_estimator_whose_target_is_scaled_is_searched_by_its_own_parameters(self) -> None:
        options = EstimatorOptions(name="random_forest", parameters={"n_estimators": 5})
        model = build_estimator(options, LINE_CONTRACT, 1)

        best, trials = search(
            model, line_rows(), LINE_CONTRACT, space={"max_depth": [1, 6]}, scoring="r2"
        )

        assert best == {"max_depth": 6}
        assert trials["max_depth"].tolist() == [6, 1]
