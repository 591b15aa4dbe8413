from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import onnx_export
from mlops_for_mle.pipelines.training.estimator import build_estimator, fit, model_input
from mlops_for_mle.pipelines.training.options import EstimatorOptions
from mlops_for_mle.predictor import OnnxModel
from tests.unit.conftest import (
    IRIS_CONTRACT,
    LINE_CONTRACT,
    iris_rows,
    line_rows,
)

# skl2onnx 1.20 writes booleans where protobuf 7 takes whole numbers only.
histogram_converts = pytest.mark.skipif(
    int(version("protobuf").split(".")[0]) >= 7, reason="skl2onnx needs protobuf below 7 for these"
)
histogram = pytest.param(
    "ensemble.HistGradientBoostingClassifier", {"max_iter": 8}, marks=histogram_converts
)
histogram_regressor = pytest.param(
    "ensemble.HistGradientBoostingRegressor", {"max_iter": 8}, marks=histogram_converts
)
SMALL: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 8},
    "histogram_gradient_boosting": {"max_iter": 8},
    "mlp": {"hidden_layer_sizes": [8]},
}
converges = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = onnx_export.grid
    monkeypatch.setattr(onnx_export, "grid", lambda rows, contract: whole(rows, contract, 2_500))


def train(
    class_path: str,
    rows: pd.DataFrame,
    contract: Contract,
    parameters: dict[str, Any] | None = None,
    scale: bool = True,
) -> Pipeline:
    options = EstimatorOptions(
        class_path=f"sklearn.{class_path}", parameters=parameters or {}, scale=scale
    )
    return fit(build_estimator(options, contract, seed=1), rows, contract)


def check_parity(model: Pipeline, rows: pd.DataFrame, contract: Contract) -> OnnxModel:
    """Compare both forms on other points than the export itself did."""
    export = onnx_export.export(model, rows, contract)
    served = OnnxModel(export.graph, contract)
    features = model_input(rows, contract).to_numpy()
    noise = np.random.default_rng(5).normal(0, 0.3, features.shape)
    points = np.vstack([features, (features + noise).round(3)])

    expected = onnx_export.trained_answers(model, points, contract)
    found = served.predict(points)

    assert export.parity.point_count > 2_000
    assert export.parity.largest_difference <= onnx_export.TOLERANCE
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-4)
    if expected.probabilities is not None:
        assert found.probabilities is not None
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    assert served.has_probabilities == (expected.probabilities is not None)
    return served


@converges
@pytest.mark.parametrize(
    ("class_path", "parameters"),
    [
        ("svm.SVC", {}),
        ("svm.SVC", {"kernel": "linear"}),
        ("linear_model.LogisticRegression", {}),
        ("linear_model.RidgeClassifier", {}),
        ("ensemble.RandomForestClassifier", {"n_estimators": 8}),
        ("tree.DecisionTreeClassifier", {}),
        ("neural_network.MLPClassifier", {"hidden_layer_sizes": [8], "max_iter": 60}),
        ("naive_bayes.GaussianNB", {}),
        histogram,
    ],
)
def test_a_classifier_is_served_as_it_was_trained(
    class_path: str, parameters: dict[str, Any]
) -> None:
    rows = iris_rows()

    served = check_parity(train(class_path, rows, IRIS_CONTRACT, parameters), rows, IRIS_CONTRACT)

    assert served.predict(model_input(rows, IRIS_CONTRACT).to_numpy()).values.dtype == np.int64


@converges
@pytest.mark.parametrize(
    ("class_path", "parameters"),
    [
        ("linear_model.Ridge", {}),
        ("svm.SVR", {}),
        ("ensemble.RandomForestRegressor", {"n_estimators": 8}),
        ("neural_network.MLPRegressor", {"hidden_layer_sizes": [8], "max_iter": 60}),
        histogram_regressor,
    ],
)
def test_a_regressor_is_served_as_it_was_trained(
    class_path: str, parameters: dict[str, Any]
) -> None:
    rows = line_rows()

    check_parity(train(class_path, rows, LINE_CONTRACT, parameters), rows, LINE_CONTRACT)


@pytest.mark.parametrize("seed", range(4))
def test_a_scaled_forest_agrees_on_rows_that_lie_on_its_thresholds(seed: int) -> None:
    rows = iris_rows()
    parameters = {"n_estimators": 8, "random_state": seed}
    model = train("ensemble.RandomForestClassifier", rows, IRIS_CONTRACT, parameters)

    export = onnx_export.export(model, rows, IRIS_CONTRACT)

    assert export.parity.largest_difference < 1e-6


def test_class_values_need_not_count_from_zero() -> None:
    classes = [{"value": value, "label": f"c{value}"} for value in (-3, 5, 70)]
    raw = IRIS_CONTRACT.model_dump()
    contract = Contract.model_validate(raw | {"target": raw["target"] | {"classes": classes}})
    rows = iris_rows()
    rows["target"] = rows["target"].map({0: -3, 1: 5, 2: 70})

    for class_path in ("svm.SVC", "linear_model.LogisticRegression", "tree.DecisionTreeClassifier"):
        served = check_parity(train(class_path, rows, contract), rows, contract)
        assert set(served.predict(model_input(rows, contract).to_numpy()).values) == {-3, 5, 70}


def test_features_far_from_zero_are_served_in_the_precision_that_they_need() -> None:
    # Neighbouring rows differ by less than float32 can tell apart.
    rows = line_rows()
    rows["a"] += 1e9
    rows["y"] = rows["a"] - 1e9
    model = train("linear_model.LinearRegression", rows, LINE_CONTRACT)

    export = onnx_export.export(model, rows, LINE_CONTRACT)

    assert export.precision == "float64"
    assert OnnxModel(export.graph, LINE_CONTRACT).dtype is np.float64


@pytest.mark.parametrize("name", ["ridge", "random_forest", "mlp", "histogram_gradient_boosting"])
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1e6, 0.0), (1e12, 0.0), (1e-7, 0.0), (1.0, 1e9)],
    ids=["1e6", "1e12", "1e-7", "1e9 ± 1"],
)
@converges
def test_a_target_of_any_size_is_learned_and_served(
    name: Any, scale: float, offset: float, request: pytest.FixtureRequest
) -> None:
    if name == "histogram_gradient_boosting":
        request.applymarker(histogram_converts)
    rows = line_rows()
    rows["y"] = rows["y"] / rows["y"].std() * scale + offset
    options = EstimatorOptions(name=name, parameters=SMALL.get(name, {}))
    model = fit(build_estimator(options, LINE_CONTRACT, seed=1), rows, LINE_CONTRACT)

    graph = onnx_export.export(model, rows, LINE_CONTRACT).graph

    found = OnnxModel(graph, LINE_CONTRACT).predict(model_input(rows, LINE_CONTRACT).to_numpy())
    expected = model.predict(model_input(rows, LINE_CONTRACT))
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-4 * scale)
    assert np.corrcoef(found.values, rows["y"])[0, 1] > 0.8


def test_an_answer_that_is_no_number_is_no_parity() -> None:
    rows = line_rows()
    model = train("linear_model.LinearRegression", rows, LINE_CONTRACT)
    points = model_input(rows, LINE_CONTRACT).to_numpy()
    served = OnnxModel(onnx_export.convert(model, LINE_CONTRACT, "float32"), LINE_CONTRACT)
    expected = onnx_export.trained_answers(model, points, LINE_CONTRACT)
    broken = np.where(np.arange(len(points))[:, None] == 3, np.nan, points)

    assert onnx_export.compare(served, expected, broken, LINE_CONTRACT)[1] is not None


def test_float32_is_preferred_and_the_graph_has_no_other_outputs_and_no_idle_parts() -> None:
    rows = iris_rows()
    export = onnx_export.export(train("svm.SVC", rows, IRIS_CONTRACT), rows, IRIS_CONTRACT)
    graph = onnx.load_from_string(export.graph).graph

    assert export.precision == "float32"
    assert [output.name for output in graph.output] == ["prediction"]
    used = {slot for part in graph.node for slot in part.input} | {"prediction"}
    assert all(used & set(part.output) for part in graph.node)
    assert {weight.name for weight in graph.initializer} <= used


def test_the_operator_sets_stand_in_one_order_whatever_the_process() -> None:
    rows = iris_rows()
    export = onnx_export.export(train("svm.SVC", rows, IRIS_CONTRACT), rows, IRIS_CONTRACT)

    domains = [one.domain for one in onnx.load_from_string(export.graph).opset_import]

    assert len(domains) > 1
    assert domains == sorted(domains)


def test_an_answer_that_differs_is_found() -> None:
    rows = iris_rows()
    model = train("linear_model.LogisticRegression", rows, IRIS_CONTRACT)
    other = train("linear_model.LogisticRegression", rows, IRIS_CONTRACT, {"C": 0.9})
    points = model_input(rows, IRIS_CONTRACT).to_numpy()
    served = OnnxModel(onnx_export.convert(other, IRIS_CONTRACT, "float32"), IRIS_CONTRACT)

    parity, failure = onnx_export.compare(
        served, onnx_export.trained_answers(model, points, IRIS_CONTRACT), points, IRIS_CONTRACT
    )

    assert parity.largest_difference > onnx_export.TOLERANCE
    assert failure is not None


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("semi_supervised.LabelSpreading", "LabelSpreading has no ONNX form"),
        ("svm.LinearSVC", "skl2onnx cannot convert LinearSVC as it is configured"),
    ],
)
def test_an_estimator_that_cannot_be_converted_is_told(class_path: str, message: str) -> None:
    rows = iris_rows()

    with pytest.raises(UserError, match=message):
        onnx_export.export(train(class_path, rows, IRIS_CONTRACT), rows, IRIS_CONTRACT)


def test_a_model_that_no_form_reproduces_is_refused() -> None:
    # The graph is made from the fitted tree, which this model does not ask.
    rows = line_rows()
    model = train("tree.DecisionTreeRegressor", rows, LINE_CONTRACT)
    model.predict = lambda features: np.full(len(features), 1e3)

    with pytest.raises(UserError, match=r"answers otherwise .*float32: .*; float64: .*Choose"):
        onnx_export.export(model, rows, LINE_CONTRACT)


@pytest.mark.parametrize("width", [1, 2, 4, 12])
def test_the_grid_covers_the_range_of_every_feature(width: int) -> None:
    names = [f"f{number}" for number in range(width)]
    contract = Contract.model_validate(
        LINE_CONTRACT.model_dump() | {"features": {name: {} for name in names}}
    )
    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(30, width)), columns=names)

    points = onnx_export.grid(rows, contract)

    assert points.shape[1] == width
    assert 1_000 < len(points) <= 2_500
    np.testing.assert_allclose(points.min(axis=0), rows.min())
    np.testing.assert_allclose(points.max(axis=0), rows.max())


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("count", [20, 59, 119])
def test_a_regressor_that_always_answers_the_same_is_served(offset: float, count: int) -> None:
    rows = line_rows().head(count)
    rows = rows.assign(**{LINE_CONTRACT.target.column: rows[LINE_CONTRACT.target.column] + offset})
    options = EstimatorOptions(
        name="random_forest", parameters={"n_estimators": 10, "min_samples_leaf": 60}
    )
    model = fit(build_estimator(options, LINE_CONTRACT, seed=1), rows, LINE_CONTRACT)

    export = onnx_export.export(model, rows, LINE_CONTRACT)

    assert export.parity.largest_difference <= onnx_export.TOLERANCE
