"""What is chosen by held-out rows: the estimator, the calibration and the threshold."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.calibration import CalibratedClassifierCV

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.training import calibration
from mlops_for_mle.pipelines.training.calibration import choose_threshold
from mlops_for_mle.pipelines.training.options import TrainingOptions
from mlops_for_mle.releases.metrics import LABEL_METRICS
from mlops_for_mle.releases.predictor import Predictor
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.training.examples import LINE_CONTRACT, SMALL, assemble, line_rows, train
from tests.releases import IRIS_CONTRACT, SMALL_CONTRACT, iris_rows

AUTO = {"name": "auto"}


# What a line fits for the greater part.
BENT_ROWS = line_rows(300).assign(
    y=lambda rows: 4 * rows["a"] + rows["b"].abs() + np.random.default_rng(5).normal(size=300)
)
# What no line fits.
CURVED_ROWS = line_rows(600).assign(y=lambda rows: rows["a"] ** 2 * np.sign(rows["b"]))


def rare_rows(row_count: int = 900) -> pd.DataFrame:
    """A class that has a tenth of the rows, and is never the more probable one."""
    random = np.random.default_rng(3)
    width = random.normal(size=row_count)
    chance = 1 / (1 + np.exp(2.6 - width))
    kinds = (random.random(row_count) < chance).astype(int)
    return pd.DataFrame({"width": width, "count": random.integers(0, 9, row_count), "kind": kinds})


@pytest.mark.parametrize(
    ("rows", "best", "chosen"),
    [
        (line_rows(), "ridge", "Ridge"),
        (BENT_ROWS, "voting", "VotingRegressor"),
        (CURVED_ROWS, "histogram_gradient_boosting", "HistGradientBoostingRegressor"),
    ],
    ids=["line", "bend", "curve"],
)
def test_the_simplest_that_is_not_shown_to_be_worse_is_chosen(rows, best, chosen, monkeypatch):
    monkeypatch.setattr("mlops_for_mle.pipelines.training.estimators._has_lightgbm", lambda: False)

    description = assemble(rows, LINE_CONTRACT, estimator=AUTO).description

    assert description.estimator == chosen
    errors = {one.estimator: one.error for one in description.candidates}
    assert list(errors) == ["constant", "ridge", "voting", "histogram_gradient_boosting"]
    assert min(errors, key=lambda name: errors[name]) == best
    assert ("linear_rmse" in description.metrics) == (chosen != "Ridge")


def test_what_is_chosen_is_the_same_again_to_the_last_bit():
    rows = mixed_rows(160).assign(timestamp=pd.date_range("2026-01-01", periods=160, freq="h"))
    options = {"estimator": AUTO, "split": {"by": "time"}, "metric": "macro_f1"}

    first = assemble(rows, MIXED_CONTRACT, **options)
    again = assemble(rows, MIXED_CONTRACT, **first.description.training)

    assert again.description == first.description
    assert again.predictor.model == first.predictor.model


def test_auto_calibrates_and_decides_as_if_its_choice_had_been_named():
    options = {"metric": "balanced_accuracy"}

    auto = train(rare_rows(400), SMALL_CONTRACT, estimator=AUTO, **options)

    named = train(rare_rows(400), SMALL_CONTRACT, estimator={"name": "logistic"}, **options)

    assert auto.predictor.model == named.predictor.model
    assert auto.predictor.threshold == named.predictor.threshold is not None


def test_a_class_of_a_single_group_does_not_keep_auto_from_choosing():
    shops = np.arange(900) % 9
    rows = rare_rows().assign(shop=shops)
    rows["kind"] = ((shops == 5) & (rows["width"] > -0.5)).astype(int)
    options = {"estimator": AUTO, "split": {"by": "group", "column": "shop"}}

    trained = train(rows, SMALL_CONTRACT, **options)

    # All folds but the one whose rows to learn from lack the class.
    assert trained.trials is not None
    assert trained.trials.filter(like="fold").shape[1] == 4


def test_auto_goes_with_no_parameters():
    with pytest.raises(ValidationError, match="auto goes with no search"):
        TrainingOptions.model_validate({"estimator": AUTO | {"parameters": {"C": 1}}})


@pytest.mark.parametrize(
    ("name", "rows", "contract"),
    [
        ("svc", mixed_rows(160), MIXED_CONTRACT),
        ("random_forest", iris_rows(), IRIS_CONTRACT),
        ("histogram_gradient_boosting", mixed_rows(160), MIXED_CONTRACT),
        ("voting", rare_rows(200), SMALL_CONTRACT),
        ("lightgbm", rare_rows(400), SMALL_CONTRACT),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_calibrated_model_is_served_as_it_was_trained(name, rows, contract, monkeypatch):
    monkeypatch.setattr(calibration, "_improves", lambda *_: True)
    estimator = {"name": name, "parameters": SMALL.get(name, {})}
    if name == "lightgbm":
        pytest.importorskip("onnxmltools", exc_type=ImportError)

    trained = train(rows, contract, estimator=estimator)

    assert trained.is_calibrated
    assert isinstance(trained.model[-1], CalibratedClassifierCV)
    assert trained.parity.largest_difference <= 1e-4
    assert trained.predictor.has_probabilities


def test_what_cannot_be_calibrated_is_told(caplog):
    # Of the third class one row is left to learn from, so no fold can judge it.
    rows = iris_rows()[:102]

    for estimator in (AUTO, {"name": "logistic"}):
        assert not train(rows, IRIS_CONTRACT, estimator=estimator).is_calibrated

    assert "probabilities are left as they are: rows of every" in caplog.text
    linear = {"class_path": "sklearn.linear_model.RidgeClassifier"}
    plain = assemble(iris_rows(), IRIS_CONTRACT, estimator=linear)
    assert not plain.is_calibrated
    # Without probabilities the constant answer, too, is measured by its values alone.
    assert {one.partition("_")[2] for one in plain.description.metrics} == set(LABEL_METRICS)


def test_a_calibration_that_would_turn_the_scores_round_is_left_out(caplog):
    # Out of fold, a model of so few rows of a class knows less than nothing of it.
    trained = train(rare_rows(100), SMALL_CONTRACT, estimator={"name": "svc"})

    assert not trained.is_calibrated
    assert not trained.predictor.has_probabilities
    assert "left as they are: out of fold, rows of the second class have no higher" in caplog.text


def test_classes_need_not_count_from_zero_and_calibration_leaves_the_answers():
    values = np.array([-3, 5, 70])
    classes = [{"value": value, "label": f"c{value}"} for value in values.tolist()]
    target = IRIS_CONTRACT.target.model_dump() | {"classes": classes}
    other = Contract.model_validate(IRIS_CONTRACT.model_dump() | {"target": target})
    rows, svc = iris_rows(), {"name": "svc"}

    found = train(rows.assign(target=values[rows["target"]]), other, estimator=svc)

    usual = train(rows, IRIS_CONTRACT, estimator=svc).predictor
    plain = train(rows, IRIS_CONTRACT, estimator=svc, calibrate=False).predictor
    matrix = found.examples.features.to_numpy()
    answers, expected = found.predictor.predict(matrix), usual.predict(matrix)
    assert found.is_calibrated
    assert answers.values.tolist() == values[plain.predict(matrix).values].tolist()
    np.testing.assert_array_equal(answers.probabilities, expected.probabilities)


def test_overconfident_probabilities_are_calibrated_and_good_ones_left_alone():
    deep = {"name": "random_forest", "parameters": {"n_estimators": 10, "min_samples_leaf": 1}}

    forest = assemble(rare_rows(), SMALL_CONTRACT, estimator=deep).description
    linear = assemble(rare_rows(), SMALL_CONTRACT).description

    assert forest.calibrated
    assert forest.metrics["validation_brier"] < forest.metrics["uncalibrated_brier"]
    assert linear.calibrated
    assert "uncalibrated_brier" not in linear.metrics


def test_a_rare_class_is_answered_from_a_threshold_on_that_the_release_carries():
    usual = assemble(rare_rows(), SMALL_CONTRACT, metric="log_loss").description
    candidate = assemble(rare_rows(), SMALL_CONTRACT, metric="balanced_accuracy")

    found = candidate.description
    assert usual.threshold is None
    assert found.threshold is not None
    assert 0 < found.threshold < 0.3
    better = "validation_balanced_accuracy"
    assert found.metrics[better] > usual.metrics[better] + 0.1
    matrix = candidate.examples.features.to_numpy()
    raw = Predictor(candidate.predictor.model, SMALL_CONTRACT).predict(matrix).probabilities
    answers = candidate.predictor.predict(matrix).values
    assert answers.tolist() == (raw[:, 1] >= found.threshold).astype(int).tolist()


def test_a_threshold_is_found_among_few_rows_of_the_second_class():
    truth = (np.arange(4_000) < 8).astype(np.int64)
    second = np.where(truth, np.linspace(0.2, 0.3, 4_000), np.linspace(0, 0.1, 4_000))
    chances = np.column_stack([1 - second, second])

    threshold = choose_threshold(chances, truth, SMALL_CONTRACT.target, "macro_f1")

    assert 0.1 < threshold < 0.2001


def test_a_date_beyond_the_training_rows_counts_as_the_last_of_them():
    trained = train(mixed_rows(160), MIXED_CONTRACT, calibrate=False)
    features = trained.examples.features.head(1)
    day = "last seen.days_since_1970"
    known = trained.examples.features[~trained.examples.is_validation][day]

    def chance(value: float) -> float:
        found = trained.predictor.predict(features.assign(**{day: value}).to_numpy())
        return float(found.probabilities[0, 1])

    assert chance(known.min() - 700) == pytest.approx(chance(known.min()), abs=1e-6)
    assert chance(known.max() + 700) == pytest.approx(chance(known.max()), abs=1e-6)
    assert chance(known.max()) != pytest.approx(chance(known.min()), abs=1e-6)
