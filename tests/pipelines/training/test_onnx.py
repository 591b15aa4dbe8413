"""The served form answers as the trained model does, or is refused."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_examples
from mlops_for_mle.contract.model import Task
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.training import onnx as served_form
from mlops_for_mle.pipelines.training.estimators import auto_candidates, estimator_names
from mlops_for_mle.pipelines.training.onnx import compare, probe_points
from mlops_for_mle.releases.manifest import Parity
from mlops_for_mle.releases.predictor import Predictions, Predictor
from tests.mixed import MIXED_CONTRACT, MIXED_REGRESSION, mixed_rows
from tests.pipelines.training.examples import LINE_CONTRACT, SMALL, assemble, fit, line_rows
from tests.releases import IRIS_CONTRACT, iris_rows

ROWS = mixed_rows()
PLAIN = {"classification": (iris_rows(), IRIS_CONTRACT), "regression": (line_rows(), LINE_CONTRACT)}
MIXED = {"classification": (ROWS, MIXED_CONTRACT), "regression": (ROWS, MIXED_REGRESSION)}


@pytest.fixture(autouse=True)
def small_grid(monkeypatch) -> None:
    monkeypatch.setattr(served_form, "_PROBE_POINTS", 2_500)


def export(model: Pipeline, rows: pd.DataFrame, contract: Contract) -> tuple[Predictor, Parity]:
    return served_form.export(model, encode_examples(rows, contract)[0], contract)


def check_parity(model: Pipeline, rows: pd.DataFrame, contract: Contract) -> None:
    """Compare both forms on points that the export has not seen."""
    predictor, parity = export(model, rows, contract)
    features, _ = encode_examples(rows, contract)
    points = probe_points(features.to_numpy(), contract, 3_001)

    found = predictor.predict(points)
    expected = served_form.pipeline_predictions(
        model, pd.DataFrame(points, columns=features.columns)
    )

    assert parity.point_count > 2_000
    assert parity.largest_difference <= 1e-4
    assert compare(found, expected).largest_difference <= 1e-4
    assert predictor.has_probabilities == hasattr(model, "predict_proba")
    assert len(np.unique(found.values)) > 1
    if found.probabilities is not None:
        assert (found.probabilities >= 0).all()
        assert (found.probabilities <= 1).all()


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task in get_args(Task) for name in estimator_names(task)]
)
def test_every_model_of_the_menu_is_served_as_it_was_trained(task, name):
    if name == "lightgbm":
        pytest.importorskip("lightgbm", exc_type=ImportError)
        pytest.importorskip("onnxmltools", exc_type=ImportError)
        assert auto_candidates(task)[-1].name == "lightgbm"
    trees = "histogram_gradient_boosting__estimator__" + "regressor__" * (task == "regression")
    small = SMALL | {"voting": {f"{trees}max_iter": 8}}
    for rows, contract in (MIXED[task], PLAIN[task]):
        model = fit({"name": name, "parameters": small.get(name, {})}, rows, contract)
        check_parity(model, rows, contract)


@pytest.mark.parametrize(
    ("class_path", "parameters"),
    [
        ("sklearn.svm.SVC", {"kernel": "linear"}),
        ("sklearn.svm.SVC", {"decision_function_shape": "ovo"}),
        ("sklearn.linear_model.RidgeClassifier", {}),
        # In float32, ten tenths are more than one.
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 10}),
    ],
)
def test_other_models_are_served_as_they_were_trained(class_path, parameters):
    estimator = {"class_path": class_path, "parameters": parameters}
    check_parity(fit(estimator, *PLAIN["classification"]), *PLAIN["classification"])


def test_features_far_from_zero_are_served_in_the_precision_that_they_need():
    # Neighbouring rows differ by less than float32 can tell apart.
    rows = line_rows()
    rows["a"] += 1e9
    rows["y"] = rows["a"] - 1e9
    model = fit({"name": "ridge"}, rows, LINE_CONTRACT)

    assert export(model, rows, LINE_CONTRACT)[0].precision == "float64"


def test_a_target_far_from_zero_is_learned_and_served():
    rows, name = line_rows(), "histogram_gradient_boosting"
    rows["y"] += 1e9
    model = fit({"name": name, "parameters": SMALL[name]}, rows, LINE_CONTRACT)

    served, _ = export(model, rows, LINE_CONTRACT)

    features, truth = encode_examples(rows, LINE_CONTRACT)
    found = served.predict(features.to_numpy())
    np.testing.assert_allclose(found.values, model.predict(features), rtol=0, atol=1e-3)
    assert np.corrcoef(found.values, truth)[0, 1] > 0.8


def test_an_answer_that_is_no_number_is_no_parity():
    answers = Predictions(np.array([1.0, np.nan, 2.0]), None)

    with pytest.raises(ReleaseError, match="differ by up to nan"):
        compare(answers, Predictions(np.array([1.0, 1.5, 2.0]), None))


def test_a_model_that_no_form_reproduces_is_refused():
    # The graph is made from what was fitted, which this model does not ask.
    model = fit({"class_path": "sklearn.linear_model.LinearRegression"}, *PLAIN["regression"])
    model.predict = lambda features: np.full(len(features), 1e3)

    with pytest.raises(UserError, match=r"no ONNX form .*float32.*float64.*choose"):
        export(model, *PLAIN["regression"])


def test_the_grid_covers_what_a_column_may_hold_and_nothing_else():
    features, _ = encode_examples(ROWS, MIXED_CONTRACT)

    found = probe_points(features.to_numpy(), MIXED_CONTRACT, 2_000)

    points = pd.DataFrame(found, columns=features.columns)
    ends = ["min", "max"]
    assert points["select"].agg(ends).tolist() == features["select"].agg(ends).tolist()
    assert set(points["channel"]) == {-1.0, 0.0, 1.0, 2.0}
    assert set(points["region code"].dropna()) == {0.0, 1.0, 2.0}
    assert points["region code"].isna().any()
    assert (points["select"].dropna() % 1 == 0).all()
    assert not points.filter(like="가입일.").isna().any(axis=None)


def test_a_release_is_held_to_the_answers_of_its_served_form():
    """Those of the trained model may differ from them by more than a loading forgives."""
    assembled = assemble(line_rows(), LINE_CONTRACT)

    example = assembled.examples.validation.features.head(5).to_numpy()
    answers = assembled.predictor.predict(example).values.tolist()
    assert [*assembled.description.example.predictions] == answers
    assert answers != assembled.model.predict(example).tolist()
