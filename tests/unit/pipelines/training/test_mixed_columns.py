"""Training on every type of column, from rows to a served form that answers alike."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.frame_encoding import encode_frame
from mlops_for_mle.pipelines.metrics import measure
from mlops_for_mle.pipelines.training import nodes, onnx_export
from mlops_for_mle.pipelines.training.estimator import build_estimator, fit
from mlops_for_mle.pipelines.training.menu import MENU, names_for
from mlops_for_mle.pipelines.training.options import EstimatorOptions, TrainingOptions
from mlops_for_mle.pipelines.training.parity_grid import grid
from mlops_for_mle.pipelines.training.split import split_rows
from mlops_for_mle.predictor import OnnxModel
from mlops_for_mle.records import Window
from tests.mixed import MIXED_CONTRACT, MIXED_REGRESSION, mixed_rows
from tests.unit.conftest import IRIS_CONTRACT, LINE_CONTRACT, iris_rows, line_rows

ROWS = mixed_rows()
SMALLER: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 20},
    "histogram_gradient_boosting": {"max_iter": 8},
    "mlp": {"hidden_layer_sizes": [8], "max_iter": 80},
}
converges = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def options(name: str | None, **changes: Any) -> TrainingOptions:
    parameters = SMALLER.get(name or "", {})
    estimator = EstimatorOptions.model_validate({"name": name, "parameters": parameters})
    return TrainingOptions.model_validate({"seed": 1, "estimator": estimator} | changes)


def check_parity(name: str, rows: pd.DataFrame, contract: Contract) -> None:
    """The exported form answers rows alike that the export has not seen."""
    model = fit(build_estimator(options(name).estimator, contract, seed=1), rows, contract)
    export = onnx_export.export(model, rows, contract)
    points = grid(rows, contract, 3_001)

    expected = onnx_export.trained_answers(model, points, contract)
    parity, failure = onnx_export.compare(
        OnnxModel(export.graph, contract), expected, points, contract
    )

    assert failure is None
    assert parity.largest_difference <= 1e-4
    assert len(np.unique(expected.values)) > 1


@converges
@pytest.mark.parametrize("name", names_for("classification"))
def test_every_classifier_of_the_menu_is_served_as_it_was_trained(name: str) -> None:
    check_parity(name, ROWS, MIXED_CONTRACT)
    check_parity(name, iris_rows(), IRIS_CONTRACT)


@converges
@pytest.mark.parametrize("name", names_for("regression"))
def test_every_regressor_of_the_menu_is_served_as_it_was_trained(name: str) -> None:
    check_parity(name, ROWS, MIXED_REGRESSION)
    check_parity(name, line_rows(), LINE_CONTRACT)


def test_the_whole_training_runs_with_nothing_chosen() -> None:
    snapshot = nodes.take_snapshot(Window("churn", ROWS), MIXED_CONTRACT)
    chosen = options(None)
    training, validation = nodes.split_snapshot(snapshot, MIXED_CONTRACT, chosen)
    model, parameters = nodes.train_model(training, MIXED_CONTRACT, chosen)
    metrics = nodes.evaluate_model(model, training, validation, MIXED_CONTRACT)
    export = nodes.export_model(model, snapshot, MIXED_CONTRACT)
    nodes.draw_plots(model, validation, MIXED_CONTRACT)

    trained = nodes.assemble_candidate(
        model, parameters, export, metrics, snapshot, validation, MIXED_CONTRACT, chosen
    )

    passport = trained.passport
    assert passport.estimator == "LogisticRegression"
    assert {name for name in metrics if name.startswith("validation")} == {
        f"validation_{name}"
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "brier")
    }
    assert metrics["validation_roc_auc"] > 0.8
    again = type(passport).model_validate_json(passport.model_dump_json())
    answers = OnnxModel(export.graph, MIXED_CONTRACT).predict(
        encoding_of(MIXED_CONTRACT).rows(again.example.rows)
    )
    assert answers.values.tolist() == list(again.example.predictions)


def test_missing_values_are_replaced_by_statistics_of_the_training_rows() -> None:
    model = fit(build_estimator(options(None).estimator, MIXED_CONTRACT, 1), ROWS, MIXED_CONTRACT)
    one = ROWS.head(1).assign(**{"Usage (GB)": ROWS["Usage (GB)"].mean(), "월 요금": np.nan})
    gap = one.assign(**{"Usage (GB)": np.nan, "월 요금": ROWS["월 요금"].median()})

    first, second = (model.predict_proba(encode_frame(rows, MIXED_CONTRACT)) for rows in (one, gap))

    np.testing.assert_allclose(first, second)


def test_an_unknown_category_counts_as_none_of_the_known_ones() -> None:
    model = fit(build_estimator(options(None).estimator, MIXED_CONTRACT, 1), ROWS, MIXED_CONTRACT)
    rows = ROWS.head(2).assign(channel=["phone", "fax"])

    transformed = model.named_steps["columns"].transform(encode_frame(rows, MIXED_CONTRACT))
    known = model.named_steps["columns"].transform(
        encode_frame(rows.assign(channel="web"), MIXED_CONTRACT)
    )

    changed = ~np.isclose(transformed, known)
    assert changed.sum(axis=1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("contract", "name", "message"),
    [
        (MIXED_CONTRACT, "ridge", "needs a model for classification; allowed: logistic, svc"),
        (MIXED_REGRESSION, "svc", "needs a model for regression; allowed: ridge, random_forest"),
    ],
)
def test_a_short_name_for_another_task_is_refused(
    contract: Contract, name: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_estimator(options(name).estimator, contract, 1)


def test_an_estimator_without_onnx_form_stops_with_those_that_have_one() -> None:
    chosen = EstimatorOptions(class_path="sklearn.semi_supervised.LabelSpreading")
    model = fit(build_estimator(chosen, IRIS_CONTRACT, 1), iris_rows(), IRIS_CONTRACT)

    with pytest.raises(UserError, match=r"one of logistic, svc, random_forest, histogram"):
        onnx_export.export(model, iris_rows(), IRIS_CONTRACT)


def test_only_what_a_request_may_hold_is_in_the_grid() -> None:
    encoding = encoding_of(MIXED_CONTRACT)

    points = pd.DataFrame(grid(ROWS, MIXED_CONTRACT, 2_000), columns=list(encoding.names))

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


def test_rare_classes_stand_on_both_sides_in_their_share() -> None:
    rows = mixed_rows(2_000, seed=3)
    rows["left?"] = np.where(rows.index % 50 == 0, "leaves", "stays")

    training, validation = split_rows(rows, MIXED_CONTRACT, 0.25, 1)

    assert (validation["left?"] == "leaves").sum() == 10
    assert (training["left?"] == "leaves").sum() == 30


def test_every_name_of_the_menu_is_offered_for_some_task() -> None:
    assert set(names_for("classification")) | set(names_for("regression")) == set(MENU)


def test_probabilities_of_three_classes_are_measured() -> None:
    model = fit(
        build_estimator(options(None).estimator, IRIS_CONTRACT, 1), iris_rows(), IRIS_CONTRACT
    )

    found = measure(model, iris_rows(), IRIS_CONTRACT)

    assert found["roc_auc"] > 0.99
    assert 0 < found["brier"] < 0.1
    assert 0 < found["log_loss"] < 0.2
    assert "roc_auc" not in measure(model, iris_rows().head(60), IRIS_CONTRACT)
