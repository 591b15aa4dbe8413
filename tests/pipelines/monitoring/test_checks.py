"""What the checks make of counts."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
)

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.checks import (
    Check,
    check_calibration,
    check_data_quality,
    check_drift,
    check_performance,
    performance_limit,
)
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, PerformanceOptions
from mlops_for_mle.pipelines.monitoring.reference import Column
from mlops_for_mle.pipelines.monitoring.window import Cell, ColumnCounts, ErrorSums, Window
from tests.pipelines.monitoring.examples import (
    CONTRACT,
    EMPTY,
    LINE,
    WIDTH,
    reference,
    widths,
    window,
)


def options(**blocks: Any) -> MonitoringOptions:
    return MonitoringOptions.model_validate(blocks)


def by_name(found: Iterable[Check]) -> dict[tuple[str, str], Check]:
    return {(one.subject, one.metric): one for one in found}


def numbers(found: Iterable[Check]) -> dict[tuple[str, str], float | None]:
    return {name: one.value for name, one in by_name(found).items()}


@pytest.mark.parametrize(
    ("counts", "metric", "said"),
    [
        ({"missing": 20}, "missing_fraction", "10 % of the values of width are missing"),
        ({"wrong_type": 1}, "wrong_type_fraction", "0.5 % of the values of width have the wrong"),
        ({"out_of_range": 3}, "out_of_range_fraction", "out of the contract's range (at most 1 %)"),
    ],
)
def test_bad_values_of_a_feature_are_an_alarm_beyond_their_limit(counts, metric, said) -> None:
    bad = window(widths(45, 45, 45, 45, **counts))

    found = by_name(check_data_quality(reference(), bad, MonitoringOptions()))

    assert {key for key, one in found.items() if one.severity == "alarm"} == {("width", metric)}
    assert said in found["width", metric].message
    limits = {"maximum_missing": None, "maximum_wrong_type": 0.1, "maximum_out_of_range": 0.02}
    found = by_name(check_data_quality(reference(), bad, options(quality=limits)))
    assert {one.severity for one in found.values()} == {"none"}


@pytest.mark.parametrize(("missing", "severity"), [(48, "none"), (52, "alarm")])
def test_gaps_that_the_reference_has_too_are_no_alarm(missing: int, severity: str) -> None:
    gappy = reference(CONTRACT, replace(WIDTH, missing=0.2))
    seen = window(widths(40, 40, 40, 40, missing=missing))

    found = by_name(check_data_quality(gappy, seen, MonitoringOptions()))

    assert found["width", "missing_fraction"].severity == severity


def test_unknown_categories_are_counted_for_categories_only() -> None:
    colour = Column("width", "category", (1, 2), (0, 80, 80), categories=("a", "b"))
    bad = window(ColumnCounts((20, 90, 90)))

    found = by_name(check_data_quality(reference(CONTRACT, colour), bad, MonitoringOptions()))

    assert found["width", "unknown_fraction"].severity == "alarm"
    assert ("width", "out_of_range_fraction") not in found
    clean = by_name(check_data_quality(reference(), window(), MonitoringOptions()))
    assert ("width", "unknown_fraction") not in clean


def test_a_few_rows_are_no_reason_for_an_alarm() -> None:
    few = window(widths(2, 2, 2, 2, missing=1), answers=(5, 4))
    found = by_name(check_data_quality(reference(), few, MonitoringOptions()))
    assert {one.severity for one in found.values()} == {"none"}
    assert found["width", "missing_fraction"].value == pytest.approx(1 / 9)


def test_old_repeated_and_future_rows_are_a_warning() -> None:
    strict = options(quality={"maximum_age_hours": 1, "maximum_duplicates": 0.1})
    stale = window(age_seconds=7300.0, duplicates=100, ahead=3)

    found = by_name(check_data_quality(reference(), stale, strict))

    assert {key for key, one in found.items() if one.severity == "warning"} == {
        ("rows", "age_seconds"),
        ("rows", "future_count"),
        ("rows", "duplicate_fraction"),
    }
    assert "2.03 hours old (at most 1)" in found["rows", "age_seconds"].message
    relaxed = check_data_quality(reference(), replace(stale, ahead=0), MonitoringOptions())
    assert {one.severity for one in relaxed} == {"none"}


def test_a_window_without_rows_can_be_looked_at() -> None:
    strict = options(quality={"maximum_age_hours": 1})
    found = by_name(check_data_quality(reference(), window(**EMPTY), strict))
    assert found["rows", "row_count"].value == 0
    assert found["width", "missing_fraction"].value is None
    assert {one.severity for one in found.values()} == {"none"}


def test_a_drifted_feature_is_named_with_how_far_it_has_moved() -> None:
    found = check_drift(reference(), window(widths(5, 5, 20, 170, mean=3.5)), MonitoringOptions())

    feature, shift, prediction = found
    assert (feature.subject, feature.severity) == ("width", "alarm")
    assert "feature width has drifted" in feature.message
    assert "its mean is 1.50 standard deviations above the training data's" in feature.message
    assert (shift.metric, shift.value) == ("mean_shift", 1.5)
    assert (prediction.subject, prediction.severity) == ("prediction", "none")


def test_drifted_predictions_are_told_by_the_class_that_has_changed_most() -> None:
    prediction = check_drift(reference(), window(answers=(20, 180)), MonitoringOptions())[-1]

    assert prediction.severity == "alarm"
    assert "the predicted kind has drifted" in prediction.message
    assert "no makes up 10 % instead of 50 %" in prediction.message


def test_a_category_that_training_has_not_seen_is_drift() -> None:
    colour = Column("width", "category", (1, 2), (0, 80, 80), categories=("a", "b"))
    seen = window(ColumnCounts((100, 50, 50)))

    feature, _ = check_drift(reference(CONTRACT, colour), seen, MonitoringOptions())

    assert feature.severity == "alarm"
    assert "what training has not seen makes up 50 % instead of 0 %" in feature.message


def test_a_small_significant_difference_is_a_warning() -> None:
    counts = widths(1400, 800, 1000, 800)
    found = check_drift(reference(), window(counts, answers=(2000, 2000)), MonitoringOptions())
    assert found[0].severity == "none"
    levels = options(drift={"warning": 0.001, "alarm": 0.5})
    assert check_drift(reference(), window(counts), levels)[0].severity == "warning"


def test_with_too_few_predictions_nothing_is_said_of_drift() -> None:
    few = window(widths(1, 1, 1, 1), answers=(9, 90))
    assert check_drift(reference(), few, MonitoringOptions()) == ()


def test_a_feature_that_is_expected_to_differ_is_shown_and_does_not_count() -> None:
    ignoring = options(drift={"ignore": ["width"]})
    feature = check_drift(reference(), window(widths(5, 5, 20, 170)), ignoring)[0]
    assert (feature.severity, feature.p_value) == ("none", None)
    assert feature.value is not None
    assert feature.value > 1

    unknown = options(drift={"ignore": ["height"]})
    with pytest.raises(ConfigurationError, match=r"contract small, which are width \(found height"):
        check_drift(reference(), window(), unknown)


def classified(*counts: int, wrong_class: int = 0) -> Window:
    """Labelled predictions: right no, wrong no, wrong yes, right yes."""
    cells = [
        Cell(predicted, actual, None, count)
        for (predicted, actual), count in zip(((0, 0), (0, 1), (1, 0), (1, 1)), counts, strict=True)
    ]
    if wrong_class:
        cells.append(Cell(1, None, None, wrong_class))
    return window(cells=tuple(cells))


def sums(errors: np.ndarray, target: np.ndarray) -> ErrorSums:
    """What the database would sum up; the target's standard deviation is 2."""
    scaled, moved = errors / 2, (target - 5) / 2
    return ErrorSums(
        len(errors),
        float(np.abs(scaled).sum()),
        float((scaled**2).sum()),
        float((scaled**4).sum()),
        float(moved.sum()),
        float((moved**2).sum()),
    )


def test_classes_are_measured_as_scikit_learn_measures_them() -> None:
    predicted = [0] * 50 + [1] * 50
    actual = [0] * 40 + [1] * 10 + [0] * 5 + [1] * 45

    found = numbers(check_performance(reference(), classified(40, 10, 5, 45), MonitoringOptions()))

    assert found["prediction", "accuracy"] == accuracy_score(actual, predicted)
    assert found["prediction", "balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(actual, predicted)
    )
    assert found["prediction", "macro_f1"] == pytest.approx(
        f1_score(actual, predicted, average="macro")
    )
    assert found["yes", "recall"] == 45 / 55


def test_an_accuracy_below_its_limit_is_an_alarm_only_if_it_is_no_chance() -> None:
    few = check_performance(reference(), classified(25, 5, 5, 25), MonitoringOptions())
    many = check_performance(reference(), classified(2500, 500, 500, 2500), MonitoringOptions())

    for found, p_low, p_high in ((few, 0.1, 1.0), (many, 0, 0.001)):
        (accuracy,) = (one for one in found if one.metric == "accuracy")
        assert (accuracy.severity, accuracy.if_chance) == ("alarm", "warning")
        assert accuracy.p_value is not None
        assert p_low <= accuracy.p_value <= p_high
        assert accuracy.threshold == pytest.approx(0.85)
    assert "live accuracy is 0.833" in accuracy.message


def test_a_label_that_the_contract_does_not_know_counts_as_wrong() -> None:
    found = check_performance(
        reference(), classified(50, 0, 0, 40, wrong_class=10), MonitoringOptions()
    )
    assert numbers(found)["prediction", "accuracy"] == 0.9


def test_with_too_few_labels_nothing_is_said_of_performance() -> None:
    found = check_performance(reference(), classified(20, 0, 0, 29), MonitoringOptions())
    assert found == ()


@pytest.mark.parametrize(
    ("limit", "tolerance", "accuracy", "rmse"),
    [
        (None, 0.1, 0.85, 2.2),
        (0.9, 0.1, 0.9, 0.9),
        (0.5, 0.1, 0.85, 0.5),
        (3.0, None, 1.0, 3.0),
        (None, None, None, None),
    ],
)
def test_the_stricter_limit_counts(limit, tolerance, accuracy, rmse) -> None:
    limits = PerformanceOptions(limit=limit, tolerance=tolerance)
    validation = {"validation_accuracy": 0.95, "validation_rmse": 2.0}
    for metric, expected in (("accuracy", accuracy), ("rmse", rmse)):
        found = performance_limit(metric, validation, limits)
        assert found == (None if expected is None else pytest.approx(expected))
    assert performance_limit("mae", validation, PerformanceOptions()) is None


def test_a_metric_of_the_other_task_is_refused() -> None:
    wrong = options(performance={"metric": "accuracy"})
    with pytest.raises(ConfigurationError, match="rmse or mae"):
        check_performance(reference(LINE), window(), wrong)


def test_the_explained_variance_is_scikit_learns() -> None:
    random = np.random.default_rng(4)
    target = random.normal(7, 3, 100)
    answers = target + random.normal(0, 1, 100)
    data = window(errors=sums(answers - target, target))

    found = numbers(check_performance(reference(LINE), data, MonitoringOptions()))

    assert found["prediction", "r2"] == pytest.approx(r2_score(target, answers))
    assert found["prediction", "mae"] == pytest.approx(mean_absolute_error(target, answers))


def rated(confidence: float, right: int, wrong: int) -> Window:
    """Answers of one probability, some of them right."""
    cells = []
    for actual, count in ((0, right), (1, wrong)):
        hit = float(actual == 0)
        cells.append(
            Cell(
                predicted=0,
                actual=actual,
                confidence_bin=min(int(confidence * 10), 9),
                count=count,
                confidence=confidence * count,
                brier=2 * (hit - confidence) ** 2 * count,
                calibration_sum=(hit - confidence) * (1 - 2 * confidence) * count,
                calibration_variance=(1 - 2 * confidence) ** 2
                * confidence
                * (1 - confidence)
                * count,
            )
        )
    return window(cells=tuple(cells))


def test_true_probabilities_are_found_to_be_true() -> None:
    found = check_calibration(reference(), rated(0.8, 160, 40), MonitoringOptions())

    error, brier, confidence, step = found
    assert error.value == pytest.approx(0, abs=1e-12)
    assert (error.severity, error.p_value) == ("none", pytest.approx(1))
    assert brier.value == pytest.approx(2 * (0.8 * 0.04 + 0.2 * 0.64))
    assert confidence.value == pytest.approx(0.8)
    assert (step.subject, step.value) == ("confidence 0.8 to 0.9", 0.8)


@pytest.mark.parametrize(("right", "tendency"), [(120, "too sure"), (199, "not sure enough")])
def test_untrue_probabilities_are_a_warning_and_never_an_alarm(right: int, tendency: str) -> None:
    strict = options(calibration={"maximum_error": 0.05})
    found = check_calibration(reference(), rated(0.8, right, 200 - right), strict)

    error = found[0]
    assert error.value == pytest.approx(abs(0.8 - right / 200))
    assert error.severity == "warning"
    assert error.p_value is not None
    assert error.p_value < 0.001
    assert tendency in error.message


def test_without_probabilities_nothing_is_said_of_them() -> None:
    found = check_calibration(reference(), classified(100, 0, 0, 100), MonitoringOptions())
    assert found == ()
