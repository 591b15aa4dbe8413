from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.estimator import (
    build_estimator,
    fit,
    inner_estimator,
    model_input,
    search_parameters,
    set_parameters,
)
from mlops_for_mle.pipelines.training.options import (
    EstimatorOptions,
    SearchOptions,
    TrainingOptions,
)
from tests.unit.conftest import IRIS_CONTRACT, LINE_CONTRACT, iris_rows, line_rows


def build(class_path: str, scale: bool = True, contract=IRIS_CONTRACT, **parameters: Any):
    options = EstimatorOptions(class_path=class_path, parameters=parameters, scale=scale)
    return build_estimator(options, contract, seed=7)


def search(model: Pipeline, seed: int = 1, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    """Search on iris; gives the best combination and those that were tried."""
    tried: list[Any] = []

    def progress(trials: Iterable[Any], total: int) -> Iterable[Any]:
        tried.extend(trials)
        assert len(tried) == total
        return tried

    settings = SearchOptions.model_validate({"folds": 3, "scoring": "accuracy"} | options)
    best = search_parameters(model, iris_rows(), IRIS_CONTRACT, settings, seed, progress)
    return best, tried


def test_a_scaler_stands_in_front_where_it_is_wanted() -> None:
    assert [name for name, _ in build("sklearn.svm.SVC").steps] == ["scaler", "estimator"]
    assert [name for name, _ in build("sklearn.svm.SVC", scale=False).steps] == ["estimator"]


def test_the_seed_is_given_to_estimators_that_take_one_unless_one_is_configured() -> None:
    forest = "sklearn.ensemble.RandomForestClassifier"

    assert build(forest).named_steps["estimator"].random_state == 7
    assert build(forest, random_state=3).named_steps["estimator"].random_state == 3
    assert "random_state" not in build("sklearn.naive_bayes.GaussianNB").get_params()


@pytest.mark.parametrize(
    "class_path",
    [
        "sklearn.svm.SVM",
        "sklearn.nowhere.SVC",
        "sklearn.svm",
        "sklearn.datasets.load_iris",
        "sklearn.exceptions.NotFittedError",
    ],
)
def test_what_is_no_estimator_is_refused(class_path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(class_path)

    assert str(caught.value).startswith("training.estimator.class_path: ")
    assert class_path in str(caught.value)


@pytest.mark.parametrize(
    ("class_path", "contract", "task"),
    [
        ("sklearn.svm.SVR", IRIS_CONTRACT, "classification"),
        ("sklearn.svm.SVC", LINE_CONTRACT, "regression"),
        ("sklearn.preprocessing.StandardScaler", LINE_CONTRACT, "regression"),
    ],
)
def test_an_estimator_for_another_task_is_refused(
    class_path: str, contract: Any, task: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"needs a model for {task} .found {class_path}"):
        build(class_path, contract=contract)


def test_an_unknown_parameter_is_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(ConfigurationError, match="SVC has no parameter D, c; allowed: C, break"):
        build("sklearn.svm.SVC", c=1, D=2)


def test_a_value_that_the_estimator_refuses_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"training\.estimator\.parameters: .*'C'"):
        fit(build("sklearn.svm.SVC", C=-1), iris_rows(), IRIS_CONTRACT)


@pytest.mark.parametrize(
    ("class_path", "parameters", "said"),
    [
        ("sklearn.linear_model.LogisticRegression", {"solver": "liblinear"}, "'liblinear' solver"),
        ("sklearn.linear_model.LogisticRegression", {"class_weight": {"a": 1}}, "class_weight"),
        ("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": ["a"]}, "MLPClassifier"),
        ("sklearn.naive_bayes.MultinomialNB", {}, "Negative values"),
        (
            "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
            {"shrinkage": "auto"},
            "shrinkage not supported with 'svd' solver",
        ),
        ("sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 999}, "n_neighbors = 999"),
        ("sklearn.ensemble.BaggingClassifier", {"estimator": "svc"}, "BaggingClassifier"),
    ],
)
def test_what_does_not_go_with_the_rows_is_one_sentence_that_names_the_key(
    class_path: str, parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fit(build(class_path, **parameters), iris_rows(), IRIS_CONTRACT)

    assert str(caught.value).startswith("training.estimator: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Change training.estimator.parameters, or choose" in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "space", "is_scaled"),
    [({}, None, True), ({"loss": "poisson"}, None, False), ({}, {"loss": ["gamma"]}, False)],
)
def test_a_loss_that_needs_positive_numbers_is_given_the_target_as_it_is(
    parameters: dict[str, Any], space: Any, is_scaled: bool
) -> None:
    options = EstimatorOptions(name="histogram_gradient_boosting", parameters=parameters)
    search = None if space is None else SearchOptions(space=space, scoring="r2")

    model = build_estimator(options, LINE_CONTRACT, 1, search=search)

    assert isinstance(model.named_steps["estimator"], TransformedTargetRegressor) == is_scaled
    assert type(inner_estimator(model)).__name__ == "HistGradientBoostingRegressor"


def test_features_are_taken_by_name_in_the_contracts_order() -> None:
    rows = iris_rows(with_key=True)

    found = model_input(rows[list(reversed(rows.columns))], IRIS_CONTRACT)

    assert tuple(found.columns) == IRIS_CONTRACT.feature_names
    assert set(found.dtypes) == {np.dtype("float64")}


@pytest.mark.parametrize(
    "class_path", ["sklearn.svm.SVC", "sklearn.ensemble.RandomForestClassifier"]
)
def test_the_same_rows_and_seed_give_the_same_model(class_path: str) -> None:
    first, second = (fit(build(class_path), iris_rows(), IRIS_CONTRACT) for _ in range(2))
    points = model_input(iris_rows(), IRIS_CONTRACT) + 0.37

    np.testing.assert_array_equal(first.predict(points), second.predict(points))


def test_the_best_combination_of_the_space_is_found() -> None:
    best, tried = search(build("sklearn.svm.SVC"), space={"C": [1e-6, 1.0], "kernel": ["rbf"]})

    assert best == {"C": 1.0, "kernel": "rbf"}
    assert len(tried) == 2


def test_random_combinations_are_as_many_as_wanted_and_the_same_for_a_seed() -> None:
    space = {"C": [0.1, 0.2, 0.4, 0.8, 1.6], "gamma": [0.1, 1.0]}

    first, second = (
        search(build("sklearn.svm.SVC"), seed=5, space=space, maximum_trials=3) for _ in range(2)
    )

    assert first == second
    assert len(first[1]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": {"C": [1.0], "depth": [3]}}, "Invalid parameter 'depth'"),
        ({"space": {"C": [-1.0]}}, "'C'"),
        ({"space": {"C": [1.0]}, "scoring": "beauty"}, "search.scoring: expected a name of"),
        ({"space": {"C": [1.0]}, "scoring": "roc_auc_ovr"}, "predict_proba"),
        ({"space": {"tol": [[1]]}}, "'tol'"),
    ],
)
def test_a_mistake_in_the_search_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=r"training\.search") as caught:
        search(build("sklearn.svm.SVC"), **options)

    assert message in str(caught.value)


def test_more_combinations_than_there_are_are_all_tried() -> None:
    _, tried = search(build("sklearn.svm.SVC"), space={"C": [0.1, 1.0]}, maximum_trials=9)

    assert len(tried) == 2


@pytest.mark.parametrize(
    ("contract", "rows", "what"),
    [
        (IRIS_CONTRACT, iris_rows()[::8], "training rows of the most frequent class, there are 7:"),
        (LINE_CONTRACT, line_rows()[:21], "distinct training rows, there are 21:"),
    ],
    ids=["classes", "numbers"],
)
def test_too_few_rows_for_the_folds_are_told(contract: Any, rows: Any, what: str) -> None:
    options = SearchOptions(space={"C": [1.0]}, folds=22, scoring="r2")
    kind = "SVR" if contract is LINE_CONTRACT else "SVC"
    model = build(f"sklearn.svm.{kind}", contract=contract)

    with pytest.raises(UserError, match=rf"training\.search\.folds: 22 folds need as many {what}"):
        search_parameters(model, rows, contract, options, 1, lambda trials, total: trials)


def test_an_estimator_whose_target_is_scaled_is_searched_by_its_own_parameters() -> None:
    options = EstimatorOptions(name="random_forest", parameters={"n_estimators": 5})
    space = {"max_depth": [1, 6]}
    model = build_estimator(options, LINE_CONTRACT, 1)

    best = search_parameters(
        model,
        line_rows(),
        LINE_CONTRACT,
        SearchOptions(space=space, folds=3, scoring="r2"),
        1,
        lambda trials, total: trials,
    )
    set_parameters(model, best)

    assert best == {"max_depth": 6}
    assert inner_estimator(fit(model, line_rows(), LINE_CONTRACT)).max_depth == 6


def test_a_search_needs_a_value_to_try() -> None:
    with pytest.raises(ConfigurationError, match=r"training\.search\.space\.C: "):
        parse_configuration(
            TrainingOptions,
            {"search": {"space": {"C": []}, "scoring": "accuracy"}},
            "training",
        )


def test_a_regression_is_searched_too() -> None:
    options = SearchOptions(space={"alpha": [1e6, 0.1]}, folds=3, scoring="r2")
    model = build("sklearn.linear_model.Ridge", contract=LINE_CONTRACT)

    best = search_parameters(
        model, line_rows(), LINE_CONTRACT, options, 1, lambda trials, total: trials
    )

    assert best == {"alpha": 0.1}
