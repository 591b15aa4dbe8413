import numpy as np
import pytest

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.calibration import check_calibration
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, PerformanceOptions
from mlops_for_mle.pipelines.monitoring.performance import check_performance, performance_limit
from mlops_for_mle.records_monitoring import ClassifiedCell, RegressionSums, WindowCounts
from tests.unit.pipelines.monitoring.examples import LINE, reference, window


def classified(*counts: int, wrong_class: int = 0) -> WindowCounts:
    """Labelled predictions: right no, wrong no, wrong yes, right yes."""
    cells = [
        ClassifiedCell(predicted, actual, None, count)
        for (predicted, actual), count in zip(((0, 0), (0, 1), (1, 0), (1, 1)), counts, strict=True)
    ]
    if wrong_class:
        cells.append(ClassifiedCell(1, None, None, wrong_class))
    return window(classified=tuple(cells))


def sums(errors: np.ndarray, target: np.ndarray) -> RegressionSums:
    """What the database would sum up; the target's standard deviation is 2."""
    scaled, moved = errors / 2, (target - 5) / 2
    return RegressionSums(
        len(errors),
        float(np.abs(scaled).sum()),
        float((scaled**2).sum()),
        float((scaled**4).sum()),
        float(moved.sum()),
        float((moved**2).sum()),
    )


def numbers(found) -> dict[tuple[str, str], float | None]:
    return {(one.subject, one.metric): one.value for one in found.checks}


def test_classes_are_measured_as_scikit_learn_measures_them() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

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
        (accuracy,) = (one for one in found.checks if one.metric == "accuracy")
        assert (accuracy.severity, accuracy.unconfirmed) == ("alarm", "warning")
        assert accuracy.p_value is not None
        assert p_low <= accuracy.p_value <= p_high
        assert accuracy.threshold == pytest.approx(0.85)
    assert "live accuracy is 0.833" in accuracy.message


def test_a_label_that_the_contract_does_not_know_counts_as_wrong() -> None:
    found = check_performance(
        reference(), classified(50, 0, 0, 40, wrong_class=10), MonitoringOptions()
    )
    assert numbers(found)["prediction", "accuracy"] == 0.9


def test_too_few_labels_are_said_to_be_too_few() -> None:
    found = check_performance(reference(), classified(20, 0, 0, 29), MonitoringOptions())
    assert found.checks == ()
    assert found.gap == "49 of the 50 labelled predictions that performance needs"


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
    options = PerformanceOptions(limit=limit, tolerance=tolerance)
    validation = {"validation_accuracy": 0.95, "validation_rmse": 2.0}
    for metric, expected in (("accuracy", accuracy), ("rmse", rmse)):
        found = performance_limit(metric, validation, options)
        assert found == (None if expected is None else pytest.approx(expected))
    assert performance_limit("mae", validation, PerformanceOptions()) is None


def test_a_metric_of_the_other_task_is_refused() -> None:
    options = MonitoringOptions.model_validate({"performance": {"metric": "accuracy"}})
    with pytest.raises(ConfigurationError, match="rmse or mae"):
        check_performance(reference(LINE), window(), options)


def test_errors_are_measured_with_intervals_that_hold_the_truth() -> None:
    random = np.random.default_rng(3)
    rounds, inside, confirmed = 300, 0, 0
    for _ in range(rounds):
        errors, target = random.normal(0, 2.2, 400), random.normal(5, 2, 400)
        data = window(regression=sums(errors, target))
        found = check_performance(reference(LINE), data, MonitoringOptions())
        (rmse,) = (one for one in found.checks if one.metric == "rmse")
        assert rmse.value == pytest.approx(float(np.sqrt((errors**2).mean())))
        assert rmse.lower is not None
        assert rmse.upper is not None
        assert rmse.p_value is not None
        inside += rmse.lower <= 2.2 <= rmse.upper
        confirmed += rmse.p_value < 0.05
    assert inside / rounds == pytest.approx(0.95, abs=0.04)
    # The true error is the limit itself, where a test is wrong as often as its level says.
    assert confirmed / rounds == pytest.approx(0.05, abs=0.04)


def test_the_explained_variance_is_scikit_learns() -> None:
    from sklearn.metrics import mean_absolute_error, r2_score

    random = np.random.default_rng(4)
    target = random.normal(7, 3, 100)
    answers = target + random.normal(0, 1, 100)
    data = window(regression=sums(answers - target, target))

    found = numbers(check_performance(reference(LINE), data, MonitoringOptions()))

    assert found["prediction", "r2"] == pytest.approx(r2_score(target, answers))
    assert found["prediction", "mae"] == pytest.approx(mean_absolute_error(target, answers))


def rated(confidence: float, right: int, wrong: int) -> WindowCounts:
    """Answers of one probability, some of them right."""
    cells = []
    for actual, count in ((0, right), (1, wrong)):
        hit = float(actual == 0)
        cells.append(
            ClassifiedCell(
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
    return window(classified=tuple(cells))


def test_true_probabilities_are_found_to_be_true() -> None:
    found = check_calibration(reference(), rated(0.8, 160, 40), MonitoringOptions())

    error, brier, confidence, step = found.checks
    assert error.value == pytest.approx(0, abs=1e-12)
    assert (error.severity, error.p_value) == ("none", pytest.approx(1))
    assert brier.value == pytest.approx(2 * (0.8 * 0.04 + 0.2 * 0.64))
    assert confidence.value == pytest.approx(0.8)
    assert (step.subject, step.value) == ("confidence 0.8 to 0.9", 0.8)


@pytest.mark.parametrize(("right", "tendency"), [(120, "too sure"), (199, "not sure enough")])
def test_untrue_probabilities_are_a_warning_and_never_an_alarm(right: int, tendency: str) -> None:
    options = MonitoringOptions.model_validate({"calibration": {"maximum_error": 0.05}})
    found = check_calibration(reference(), rated(0.8, right, 200 - right), options)

    error = found.checks[0]
    assert error.value == pytest.approx(abs(0.8 - right / 200))
    assert error.severity == "warning"
    assert error.p_value is not None
    assert error.p_value < 0.001
    assert tendency in error.message


def test_without_probabilities_nothing_is_said_of_them() -> None:
    found = check_calibration(reference(), classified(100, 0, 0, 100), MonitoringOptions())
    assert found.checks == ()
