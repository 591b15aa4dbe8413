"""What is made of counts: metrics, and the state of a release in words."""

from dataclasses import replace
from typing import Any

import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
)

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.checks import confirm, judge, performance_limit
from mlops_for_mle.pipelines.monitoring.counting import Cell, ColumnCounts, Window
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, PerformanceOptions
from mlops_for_mle.pipelines.monitoring.record import Metric, MonitoringRun, Severity
from mlops_for_mle.pipelines.monitoring.reference import Column, Expectation, Reference
from tests.pipelines.monitoring.examples import (
    CONTRACT,
    EMPTY,
    LINE,
    WIDTH,
    reference,
    widths,
    window,
)

LABELLED = (Cell(0, 0, 100), Cell(1, 1, 100))
COLOUR = Column("width", "category", (1, 2), (0, 80, 80), categories=("a", "b"))


def run(data: Window, compared: Reference | None = None, **options: Any) -> MonitoringRun:
    return judge(compared or reference(), data, MonitoringOptions.model_validate(options))


def metric(found: MonitoringRun, subject: str, name: str, area: str | None = None) -> Metric:
    (one,) = (
        one
        for one in found.metrics
        if (one.subject, one.metric) == (subject, name) and area in (None, one.area)
    )
    return one


def severe(found: MonitoringRun, severity: Severity) -> set[tuple[str, str]]:
    return {(one.subject, one.metric) for one in found.metrics if one.severity == severity}


def test_what_looks_like_the_reference_is_healthy() -> None:
    found = run(window(cells=LABELLED))

    assert found.status == "healthy"
    assert found.reasons == ["200 predictions look like the 160 rows of the training snapshot."]
    assert (found.prediction_count, found.labelled_count) == (200, 200)
    assert not severe(found, "alarm") | severe(found, "warning")


@pytest.mark.parametrize(
    ("counts", "name", "said"),
    [
        ({"missing": 20}, "missing_fraction", "10 % of the values of width are missing"),
        ({"wrong_type": 1}, "wrong_type_fraction", "0.5 % of the values of width have the wrong"),
        ({"out_of_range": 3}, "out_of_range_fraction", "out of the contract's range (at most 1 %)"),
    ],
)
def test_bad_values_of_a_feature_are_an_alarm_beyond_their_limit(counts, name, said) -> None:
    bad = window(widths(45, 45, 45, 45, **counts))

    found = run(bad)

    assert severe(found, "alarm") == {("width", name)}
    assert said in found.reasons[0]
    limits = {"maximum_missing": None, "maximum_wrong_type": 0.1, "maximum_out_of_range": 0.02}
    assert run(bad, quality=limits).status == "healthy"


@pytest.mark.parametrize(("missing", "status"), [(48, "healthy"), (52, "alarm")])
def test_gaps_that_the_reference_has_too_are_no_alarm(missing: int, status: str) -> None:
    gappy = reference(CONTRACT, replace(WIDTH, missing=0.2))
    assert run(window(widths(40, 40, 40, 40, missing=missing)), gappy).status == status


def test_a_category_that_training_has_not_seen_is_bad_and_is_drift() -> None:
    found = run(window(ColumnCounts((100, 50, 50))), reference(CONTRACT, COLOUR))

    unknown, drift = ("width", "unknown_fraction"), ("width", "population_stability_index")
    assert severe(found, "alarm") == {unknown, drift}
    assert any("training has not seen makes up 50 % instead of 0 %" in one for one in found.reasons)
    assert "out_of_range_fraction" not in {one.metric for one in found.metrics}


def test_old_and_future_rows_are_a_warning() -> None:
    strict = {"maximum_age_hours": 1}
    stale = window(age_seconds=7300.0, ahead=3)

    found = run(stale, quality=strict)

    assert severe(found, "warning") == {
        ("rows", "age_seconds"),
        ("rows", "future_count"),
    }
    assert any("2:01:40 is how old" in one and "at most 1:00:00" in one for one in found.reasons)
    assert run(replace(stale, ahead=0)).status == "healthy"


def test_a_drifted_feature_is_named_with_how_far_it_has_moved() -> None:
    found = run(window(widths(5, 5, 20, 170, mean=3.5)))

    assert severe(found, "alarm") == {("width", "population_stability_index")}
    assert "Feature width has drifted" in found.reasons[0]
    assert "its mean is 1.50 standard deviations above the training data's" in found.reasons[0]
    assert found.reasons[-1].startswith("Performance is not judged: 0 of the 50 labelled")
    assert metric(found, "width", "mean_shift").value == 1.5


def test_a_feature_that_is_expected_to_differ_is_shown_and_does_not_count() -> None:
    found = run(window(widths(5, 5, 20, 170)), drift={"ignore": ["width"]})

    index = metric(found, "width", "population_stability_index")
    assert (found.status, index.p_value) == ("healthy", None)
    assert index.value is not None
    assert index.value > 1


@pytest.mark.parametrize(
    "few", [window(widths(2, 2, 2, 2, missing=1), answers=(5, 4)), window(**EMPTY)]
)
def test_too_few_rows_are_insufficient(few: Window) -> None:
    found = run(few, quality={"maximum_age_hours": 1})

    count = few.row_count
    assert found.status == "insufficient"
    assert found.reasons == [
        f"Drift is not judged: {count} of the 100 predictions that drift needs.",
        "Performance is not judged: 0 of the 50 labelled predictions that performance needs.",
    ]
    assert metric(found, "width", "missing_fraction").value == (1 / 9 if count else None)
    # Unless something is wrong all the same.
    assert run(replace(few, cells=(Cell(0, 1, 100),))).status == "alarm"


def test_the_significance_is_shared_by_all_tests_of_the_run() -> None:
    def drift(subject: str, p_value: float) -> Metric:
        return Metric("drift", subject, "index", 1.0, p_value=p_value, severity="alarm")

    crowd = [drift(f"f{index}", 0.9) for index in range(9)]

    assert confirm([drift("width", 0.004)], 0.01)[0].is_alarm
    assert confirm([drift("width", 0.0009), *crowd], 0.01)[0].is_alarm
    lost = confirm([drift("width", 0.004), *crowd], 0.01)[0]
    assert (lost.severity, lost.p_value) == ("none", pytest.approx(0.04))


def classified(*counts: int, wrong_class: int = 0) -> Window:
    """Labelled predictions: right no, wrong no, wrong yes, right yes."""
    cells = [
        Cell(predicted, actual, count)
        for (predicted, actual), count in zip(((0, 0), (0, 1), (1, 0), (1, 1)), counts, strict=True)
    ]
    return window(cells=(*cells, Cell(1, None, wrong_class)))


def test_classes_are_measured_as_scikit_learn_measures_them() -> None:
    predicted = [0] * 50 + [1] * 50
    actual = [0] * 40 + [1] * 10 + [0] * 5 + [1] * 45

    found = run(classified(40, 10, 5, 45))

    for name, expected in (
        ("accuracy", accuracy_score(actual, predicted)),
        ("balanced_accuracy", balanced_accuracy_score(actual, predicted)),
        ("macro_f1", f1_score(actual, predicted, average="macro")),
    ):
        assert metric(found, "prediction", name).value == pytest.approx(expected)
    assert metric(found, "yes", "recall").value == 45 / 55


@pytest.mark.parametrize(("times", "status"), [(1, "warning"), (100, "alarm")])
def test_an_accuracy_below_its_limit_is_an_alarm_only_if_it_is_no_chance(times, status) -> None:
    found = run(classified(*(times * one for one in (25, 5, 5, 25))))

    accuracy = metric(found, "prediction", "accuracy", "performance")
    assert found.status == accuracy.severity == status
    assert accuracy.threshold == pytest.approx(0.85)
    assert "Live accuracy is 0.833" in found.reasons[0]
    assert found.reasons[0].endswith("which may be chance.") == (status == "warning")


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
    for name, expected in (("accuracy", accuracy), ("rmse", rmse)):
        found = performance_limit(name, validation, limits)
        assert found == (None if expected is None else pytest.approx(expected))
    assert performance_limit("mae", validation, PerformanceOptions()) is None


def test_a_metric_of_the_other_task_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rmse or mae"):
        run(window(), reference(LINE), performance={"metric": "accuracy"})


def expecting(contract: Contract = CONTRACT, **learned: Any) -> Reference:
    return replace(reference(contract), expectation=Expectation(**{"row_count": 2000} | learned))


def test_a_low_estimate_is_an_alarm_of_its_own() -> None:
    found = run(window(expected=0.6), expecting())

    estimate = metric(found, "prediction", "estimated_accuracy")
    assert severe(found, "alarm") == {("prediction", "estimated_accuracy")}
    assert estimate.area == "estimate"
    assert estimate.threshold == pytest.approx(0.85)
    assert "Estimated accuracy is 0.6 (0.5" in found.reasons[0]
    assert "on 200 predictions, below 0.85; p below 0.001." in found.reasons[0]
    few = run(window(expected=0.75), expecting(row_count=20))
    assert (few.status, few.reasons[0][-20:]) == ("warning", "which may be chance.")
    assert run(window(expected=0.94), expecting()).status == "healthy"
    assert run(window(expected=1.04), expecting()).metrics[0].value == 1.0


@pytest.mark.parametrize(("name", "power"), [("rmse", 2), ("mae", 1)])
def test_an_estimated_error_has_the_unit_of_the_target(name: str, power: int) -> None:
    given = expecting(LINE, errors=(9.0, 9.0), variation=1.4)
    options = {"performance": {"metric": name, "limit": 2.0}}
    answers = ColumnCounts((100, 100))
    found = run(window(expected=3.0**power, prediction=answers), given, **options)

    estimate = metric(found, "prediction", f"estimated_{name}")
    assert estimate.value == pytest.approx(3.0)
    assert found.status == "alarm"


@pytest.mark.parametrize(("right", "status"), [(190, "healthy"), (120, "warning")])
def test_labels_that_contradict_the_estimate_are_a_warning(right: int, status: str) -> None:
    cells = Cell(0, 0, right, expected=0.93 * right), Cell(0, 1, 200 - right, 0.93 * (200 - right))
    lenient = {"performance": {"tolerance": None}}

    found = run(window(cells=cells, expected=0.93), expecting(), **lenient)

    error = metric(found, "prediction", "estimate_error")
    assert error.value == pytest.approx(right / 200 - 0.93)
    assert found.status == status
    assert found.reasons[0].startswith("The estimate does not hold: of 200") == (right == 120)
