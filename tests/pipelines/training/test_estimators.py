"""Which estimators can be configured, and the search for their parameters."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.estimators import (
    MENU,
    build_estimator,
    inner_estimator,
    names_for,
    propose_estimator,
    search_parameters,
)
from mlops_for_mle.pipelines.training.options import (
    EstimatorOptions,
    SearchOptions,
    TrainingOptions,
)
from mlops_for_mle.pipelines.training.split import row_hashes
from tests.new_releases import IRIS_CONTRACT
from tests.pipelines.training.examples import LINE_CONTRACT, encoded, fit, iris_rows, line_rows

FOREST = "sklearn.ensemble.RandomForestClassifier"
SVC = "sklearn.svm.SVC"


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


def build(class_path: str, scale: bool = True, contract=IRIS_CONTRACT, **parameters: Any):
    options = EstimatorOptions(class_path=class_path, parameters=parameters, scale=scale)
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
    return search_parameters(model, features, truth, row_hashes(features, 5), settings, 5)


def test_a_scaler_stands_in_front_where_it_is_wanted() -> None:
    assert [name for name, _ in build(SVC).steps] == ["scaler", "estimator"]
    assert [name for name, _ in build(SVC, scale=False).steps] == ["estimator"]


def test_trees_are_given_what_float32_can_hold() -> None:
    assert [name for name, _ in build(FOREST, scale=False).steps] == ["round", "estimator"]
    model = build(FOREST).fit(*encoded(iris_rows(), IRIS_CONTRACT))

    assert model[:-1].transform(encoded(iris_rows(), IRIS_CONTRACT)[0]).dtype == np.float32


def test_the_seed_is_given_to_estimators_that_take_one_unless_one_is_configured() -> None:
    assert build(FOREST).named_steps["estimator"].random_state == 7
    assert build(FOREST, random_state=3).named_steps["estimator"].random_state == 3
    assert "random_state" not in build("sklearn.naive_bayes.GaussianNB").get_params()


@pytest.mark.parametrize(
    "class_path",
    ["sklearn.svm.SVM", "sklearn.svm", "sklearn.datasets.load_iris", "sklearn.base.BaseEstimator"],
)
def test_what_is_no_estimator_is_refused(class_path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"training\.estimator: .* found " + class_path):
        build(class_path)


@pytest.mark.parametrize(
    ("class_path", "contract", "task"),
    [
        ("sklearn.svm.SVR", IRIS_CONTRACT, "classification"),
        (SVC, LINE_CONTRACT, "regression"),
        ("sklearn.preprocessing.StandardScaler", LINE_CONTRACT, "regression"),
    ],
)
def test_an_estimator_for_another_task_is_refused(
    class_path: str, contract: Any, task: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"needs a model for {task}, found {class_path}"):
        build(class_path, contract=contract)


@pytest.mark.parametrize(
    ("contract", "name", "message"),
    [
        (IRIS_CONTRACT, "ridge", "for classification, found ridge; for name choose logistic, svc"),
        (LINE_CONTRACT, "svc", "for regression, found svc; for name choose ridge, random_forest"),
    ],
)
def test_a_short_name_for_another_task_is_refused_with_those_that_are_for_it(
    contract: Contract, name: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_estimator(EstimatorOptions(name=name), contract, seed=1)


def test_a_class_goes_before_a_name() -> None:
    options = EstimatorOptions(name="logistic", class_path=SVC)

    model = build_estimator(options, IRIS_CONTRACT, seed=1)

    assert type(inner_estimator(model)).__name__ == "SVC"


def test_an_unknown_parameter_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'D' for estimator SVC.*Valid parameters are: \['C'"):
        build(SVC, D=2)


def test_a_value_that_the_estimator_refuses_is_told() -> None:
    with pytest.raises(ValueError, match=r"'C' parameter of SVC must be .* Got -1"):
        fit({"class_path": SVC, "parameters": {"C": -1}}, iris_rows(), IRIS_CONTRACT)


@pytest.mark.parametrize(
    ("parameters", "space", "is_scaled"),
    [({}, None, True), ({"loss": "poisson"}, None, False), ({}, {"loss": ["gamma"]}, False)],
)
def test_a_loss_that_needs_positive_numbers_is_given_the_target_as_it_is(
    parameters: dict[str, Any], space: Any, is_scaled: bool
) -> None:
    options = EstimatorOptions(name="histogram_gradient_boosting", parameters=parameters)
    search = None if space is None else SearchOptions(space=space, scoring="r2")

    last = build_estimator(options, LINE_CONTRACT, 1, search).named_steps["estimator"]

    assert isinstance(last, TransformedTargetRegressor) == is_scaled
    inner = last.regressor if is_scaled else last
    assert type(inner).__name__ == "HistGradientBoostingRegressor"


@pytest.mark.parametrize("class_path", [SVC, FOREST])
def test_the_same_rows_and_seed_give_the_same_model(class_path: str) -> None:
    first, second = (fit({"class_path": class_path}, iris_rows(), IRIS_CONTRACT) for _ in range(2))
    points = encoded(iris_rows(), IRIS_CONTRACT)[0] + 0.37

    np.testing.assert_array_equal(first.predict(points), second.predict(points))


def test_every_name_is_for_some_task_and_the_default_is_the_first() -> None:
    assert {*names_for("classification"), *names_for("regression")} == set(MENU)
    assert names_for("classification")[0] == EstimatorOptions(name="logistic").name
    assert names_for("regression")[0] == "ridge"


@pytest.mark.parametrize(
    ("task", "share", "name", "parameters"),
    [
        ("classification", 0.5, "logistic", {}),
        ("classification", 0.97, "logistic", {"class_weight": "balanced"}),
        ("regression", 0.0, "ridge", {}),
    ],
)
def test_what_is_proposed_for_a_table_can_be_built(
    task: Any, share: float, name: str, parameters: dict[str, Any]
) -> None:
    proposed = propose_estimator(task, share)

    contract = IRIS_CONTRACT if task == "classification" else LINE_CONTRACT
    assert (proposed.name, proposed.parameters) == (name, parameters)
    assert build_estimator(proposed, contract, seed=1)


def test_a_search_needs_a_value_to_try() -> None:
    with pytest.raises(ValidationError, match=r"search\.space\.C"):
        TrainingOptions.model_validate({"search": {"space": {"C": []}, "scoring": "accuracy"}})


@pytest.mark.usefixtures("in_one_process")
class TestSearch:
    def test_the_best_combination_of_the_space_is_found_and_all_are_listed(self) -> None:
        best, trials = search(build(SVC), space={"C": [1e-6, 1.0], "kernel": ["rbf"]})

        assert best == {"C": 1.0, "kernel": "rbf"}
        assert trials["C"].tolist() == [1e-6, 1.0]
        assert trials["rank_test_score"].tolist() == [2, 1]
        assert trials["mean_test_score"].iloc[1] > 0.9
        assert {"split0_test_score", "split2_test_score", "mean_fit_time"} <= set(trials)

    def test_random_combinations_are_as_many_as_wanted_and_the_same_for_a_seed(self) -> None:
        space = {"C": [0.1, 0.2, 0.4, 0.8, 1.6], "gamma": [0.1, 1.0]}

        first, second = (search(build(SVC), space=space, maximum_trials=3) for _ in range(2))

        assert first[0] == second[0]
        assert len(first[1]) == 3
        assert first[1][["C", "gamma"]].equals(second[1][["C", "gamma"]])

    def test_more_combinations_than_there_are_are_all_tried(self) -> None:
        assert len(search(build(SVC), space={"C": [0.1, 1.0]}, maximum_trials=9)[1]) == 2

    def test_a_combination_that_cannot_be_scored_never_wins_and_is_told(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        neighbours = build("sklearn.neighbors.KNeighborsClassifier")

        with caplog.at_level(logging.WARNING):
            best, trials = search(neighbours, space={"n_neighbors": [999, 5, -1]})

        assert best == {"n_neighbors": 5}
        assert trials["mean_test_score"].isna().tolist() == [True, False, True]
        assert "2 of 3 combinations cannot be scored" in caplog.text
        assert "999" in caplog.text

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
            ({"space": {"C": [1.0]}, "scoring": "roc_auc_ovr"}, "predict_proba"),
            ({"space": {"tol": [[1]]}}, "'tol' parameter of SVC must be"),
        ],
    )
    def test_a_mistake_is_told_as_scikit_learn_tells_it(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises((AttributeError, ValueError), match=message) as caught:
            search(build(SVC), **options)

        assert "Traceback" not in str(caught.value)

    @pytest.mark.parametrize(
        ("contract", "rows", "what"),
        [
            (IRIS_CONTRACT, iris_rows()[::7], "n_splits=22 .* number of members in each class"),
            (LINE_CONTRACT, line_rows()[:21], "n_splits=22 greater than the number of .*21"),
        ],
        ids=["classes", "numbers"],
    )
    def test_too_few_rows_for_the_folds_are_told(
        self, contract: Contract, rows: pd.DataFrame, what: str
    ) -> None:
        kind = "SVR" if contract is LINE_CONTRACT else "SVC"
        model = build(f"sklearn.svm.{kind}", contract=contract)

        with pytest.raises(ValueError, match=what):
            search(model, rows, contract, space={"C": [1.0]}, folds=22)

    def test_equal_rows_never_stand_in_two_folds(self) -> None:
        # One neighbour knows the answer of any row that it has seen before.
        rows = pd.concat([iris_rows()] * 3, ignore_index=True)
        rows["target"] = np.tile(np.random.default_rng(1).integers(0, 3, 150), 3)
        neighbour = build("sklearn.neighbors.KNeighborsClassifier")

        _, trials = search(neighbour, rows, space={"n_neighbors": [1]})

        assert trials["mean_test_score"].iloc[0] < 0.5

    def test_an_estimator_whose_target_is_scaled_is_searched_by_its_own_parameters(self) -> None:
        options = EstimatorOptions(name="random_forest", parameters={"n_estimators": 5})
        model = build_estimator(options, LINE_CONTRACT, 1)

        best, trials = search(
            model, line_rows(), LINE_CONTRACT, space={"max_depth": [1, 6]}, scoring="r2"
        )

        assert best == {"max_depth": 6}
        assert trials["max_depth"].tolist() == [1, 6]

    def test_a_regression_is_searched_too(self) -> None:
        ridge = build("sklearn.linear_model.Ridge", contract=LINE_CONTRACT)

        best, _ = search(
            ridge, line_rows(), LINE_CONTRACT, space={"alpha": [1e6, 0.1]}, scoring="r2"
        )

        assert best == {"alpha": 0.1}


def test_several_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"C": [1e-6, 0.5, 1.0]}
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    alone = search(build(SVC), space=space)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")

    together = search(build(SVC), space=space)

    assert together[0] == alone[0]
    assert together[1]["mean_test_score"].equals(alone[1]["mean_test_score"])


def test_what_was_found_is_set_in_the_estimator() -> None:
    model = fit({"name": "ridge", "parameters": {"alpha": 3.0}}, line_rows(), LINE_CONTRACT)

    assert inner_estimator(model).alpha == 3.0
