"""The served form answers as the trained model does, or is refused."""

from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.training import nodes
from mlops_for_mle.pipelines.training import onnx as served_form
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.onnx import compare, convert, grid
from mlops_for_mle.pipelines.training.options import TrainingOptions
from mlops_for_mle.releases.predictor import Predictor
from tests.mixed import MIXED_CONTRACT, MIXED_REGRESSION, mixed_rows
from tests.pipelines.training.examples import (
    LINE_CONTRACT,
    SMALL,
    Window,
    encoded,
    fit,
    iris_rows,
    line_rows,
)
from tests.releases import IRIS_CONTRACT

ROWS = mixed_rows()

# skl2onnx 1.20 writes booleans where protobuf 7 takes whole numbers only.
histogram_converts = pytest.mark.skipif(
    int(version("protobuf").split(".")[0]) >= 7, reason="skl2onnx needs protobuf below 7 for these"
)
converges = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = served_form.grid
    monkeypatch.setattr(
        served_form, "grid", lambda values, contract: whole(values, contract, 2_500)
    )


def train(
    class_path: str,
    rows: pd.DataFrame,
    contract: Contract,
    parameters: dict[str, Any] | None = None,
) -> Pipeline:
    estimator = {"class_path": f"sklearn.{class_path}", "parameters": parameters or {}}
    return fit(estimator, rows, contract)


def export(model: Pipeline, rows: pd.DataFrame, contract: Contract) -> nodes.Trained:
    snapshot = nodes.take_snapshot(Window("a table", rows), contract)
    examples = nodes.Examples.of(snapshot, contract)
    fitted = nodes.Fitted(examples, TrainingOptions(), model, {}, None)
    return nodes.export_model(fitted)


def check_parity(
    model: Pipeline, rows: pd.DataFrame, contract: Contract, points: np.ndarray
) -> Predictor:
    """Compare both forms on points that the export has not seen."""
    exported = export(model, rows, contract)
    served = exported.predictor
    frame = pd.DataFrame(points, columns=encoded(rows, contract)[0].columns)

    parity = compare(served.predict(points), served_form.trained_answers(model, frame))

    assert exported.parity.point_count > 2_000
    assert exported.parity.largest_difference <= 1e-4
    assert parity.largest_difference <= 1e-4
    assert served.has_probabilities == hasattr(model, "predict_proba")
    assert len(np.unique(served.predict(points).values)) > 1
    return served


@converges
@pytest.mark.parametrize(
    ("class_path", "parameters", "contract"),
    [
        ("svm.SVC", {"kernel": "linear"}, IRIS_CONTRACT),
        ("linear_model.RidgeClassifier", {}, IRIS_CONTRACT),
        ("ensemble.GradientBoostingClassifier", {"n_estimators": 8}, IRIS_CONTRACT),
        ("ensemble.BaggingClassifier", {"n_estimators": 4}, IRIS_CONTRACT),
        ("naive_bayes.GaussianNB", {}, IRIS_CONTRACT),
        ("svm.SVR", {}, LINE_CONTRACT),
        ("tree.DecisionTreeRegressor", {}, LINE_CONTRACT),
        ("ensemble.ExtraTreesRegressor", {"n_estimators": 8}, LINE_CONTRACT),
    ],
)
def test_other_models_are_served_as_they_were_trained(
    class_path: str, parameters: dict[str, Any], contract: Contract
) -> None:
    rows = iris_rows() if contract is IRIS_CONTRACT else line_rows()
    model = train(class_path, rows, contract, parameters)
    features = encoded(rows, contract)[0].to_numpy()
    noise = np.random.default_rng(5).normal(0, 0.3, features.shape)
    check_parity(model, rows, contract, np.vstack([features, (features + noise).round(3)]))


@converges
@pytest.mark.parametrize(
    ("name", "mixed", "plain", "plain_rows"),
    [(name, MIXED_CONTRACT, IRIS_CONTRACT, iris_rows()) for name in names_for("classification")]
    + [(name, MIXED_REGRESSION, LINE_CONTRACT, line_rows()) for name in names_for("regression")],
)
def test_every_model_of_the_menu_is_served_as_it_was_trained(
    name: str, mixed: Contract, plain: Contract, plain_rows: pd.DataFrame
) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm", exc_type=ImportError)
        pytest.importorskip("onnxmltools", exc_type=ImportError)
    for rows, contract in ((ROWS, mixed), (plain_rows, plain)):
        model = fit({"name": name, "parameters": SMALL.get(name, {})}, rows, contract)
        points = grid(encoded(rows, contract)[0].to_numpy(), contract, 3_001)
        check_parity(model, rows, contract, points)


def test_features_far_from_zero_are_served_in_the_precision_that_they_need() -> None:
    # Neighbouring rows differ by less than float32 can tell apart.
    rows = line_rows()
    rows["a"] += 1e9
    rows["y"] = rows["a"] - 1e9
    model = train("linear_model.LinearRegression", rows, LINE_CONTRACT)

    exported = export(model, rows, LINE_CONTRACT)

    assert exported.predictor.precision == "float64"


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
    model = fit({"name": name, "parameters": SMALL.get(name, {})}, rows, LINE_CONTRACT)

    served = export(model, rows, LINE_CONTRACT).predictor

    features, truth = encoded(rows, LINE_CONTRACT)
    found = served.predict(features.to_numpy())
    np.testing.assert_allclose(found.values, model.predict(features), rtol=0, atol=1e-4 * scale)
    assert np.corrcoef(found.values, truth)[0, 1] > 0.8


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_regressor_that_always_answers_the_same_is_served(offset: float) -> None:
    rows = line_rows().head(59)
    rows = rows.assign(y=rows["y"] + offset)
    parameters = {"n_estimators": 10, "min_samples_leaf": 60}
    model = fit({"name": "random_forest", "parameters": parameters}, rows, LINE_CONTRACT)

    assert export(model, rows, LINE_CONTRACT).parity.largest_difference <= 1e-4


def test_an_answer_that_is_no_number_is_no_parity() -> None:
    rows = line_rows()
    model = train("linear_model.LinearRegression", rows, LINE_CONTRACT)
    features, _ = encoded(rows, LINE_CONTRACT)
    served = Predictor(convert(model, LINE_CONTRACT, "float32"), LINE_CONTRACT)
    broken = np.where(np.arange(len(features))[:, None] == 3, np.nan, features)

    with pytest.raises(ReleaseError, match="differ by up to nan"):
        compare(served.predict(broken), served_form.trained_answers(model, features))


@pytest.mark.parametrize(
    "class_path", ["semi_supervised.LabelSpreading", "svm.LinearSVC", "dummy.DummyClassifier"]
)
def test_an_estimator_without_a_served_form_is_told_with_those_that_have_one(
    class_path: str,
) -> None:
    rows = iris_rows()
    name = class_path.rpartition(".")[2]

    with pytest.raises(UserError, match=f"{name} cannot be served .* of logistic, svc, random_for"):
        export(train(class_path, rows, IRIS_CONTRACT), rows, IRIS_CONTRACT)


def test_a_model_that_no_form_reproduces_is_refused() -> None:
    # The graph is made from what was fitted, which this model does not ask.
    rows = line_rows()
    model = train("linear_model.LinearRegression", rows, LINE_CONTRACT)
    model.predict = lambda features: np.full(len(features), 1e3)

    with pytest.raises(UserError, match=r"no ONNX form .*float32.*float64.*choose"):
        export(model, rows, LINE_CONTRACT)


@pytest.mark.parametrize("width", [1, 12])
def test_the_grid_covers_the_range_of_every_feature(width: int) -> None:
    names = [f"f{number}" for number in range(width)]
    contract = Contract.model_validate(
        LINE_CONTRACT.model_dump() | {"features": {name: {} for name in names}}
    )
    values = np.random.default_rng(1).normal(size=(30, width))

    points = grid(values, contract, 2_500)

    assert points.shape[1] == width
    assert len(points) == 2_500
    np.testing.assert_allclose(points.min(axis=0), values.min(axis=0))
    np.testing.assert_allclose(points.max(axis=0), values.max(axis=0))


def test_only_what_a_request_may_hold_is_in_the_grid() -> None:
    features, _ = encoded(ROWS, MIXED_CONTRACT)

    points = pd.DataFrame(
        grid(features.to_numpy(), MIXED_CONTRACT, 2_000), columns=features.columns
    )

    assert set(points['the "plan"']) == {0.0, 1.0, 2.0}
    assert set(points["channel"]) == {-1.0, 0.0, 1.0, 2.0}
    assert set(points["region code"].dropna()) == {0.0, 1.0, 2.0}
    assert set(points["is new"].dropna()) == {0.0, 1.0}
    assert points["region code"].isna().any()
    assert (points["select"].dropna() % 1 == 0).all()
    seen = points.filter(like="last seen.")
    assert (seen.isna().all(axis=1) == seen.isna().any(axis=1)).all()
    joined = points.filter(like="가입일.")
    assert not joined.isna().any(axis=None)


def test_class_values_need_not_count_from_zero() -> None:
    values = (-3, 5, 70)
    raw = IRIS_CONTRACT.model_dump()
    classes = [{"value": value, "label": f"c{value}"} for value in values]
    contract = Contract.model_validate(raw | {"target": raw["target"] | {"classes": classes}})
    rows = iris_rows()
    rows["target"] = rows["target"].map(dict(enumerate(values)))
    features = encoded(rows, contract)[0].to_numpy()

    for class_path in ("svm.SVC", "linear_model.LogisticRegression"):
        served = export(train(class_path, rows, contract), rows, contract).predictor
        assert set(served.predict(features).values) == set(values)
