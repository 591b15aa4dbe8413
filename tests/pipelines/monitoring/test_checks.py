"""What is made of counts: metrics, and the state of a release in words."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_for_mle.pipelines.monitoring.checks import Metric, correct_tests
from mlops_for_mle.pipelines.monitoring.counting import LabelledCount
from mlops_for_mle.pipelines.monitoring.reference import BinnedColumn, Expectation
from tests.pipelines.monitoring.examples import (
    WIDTH,
    alarms,
    metric,
    rated,
    reference,
    run,
    widths,
    window,
)

DRIFT = ("width", "population_stability_index")
COLOUR = BinnedColumn("category", (1, 2), ("a", "b"), counts=(0, 80, 80))


def test_missing_values_of_a_feature_are_an_alarm_beyond_their_limit():
    bad = window(widths(45, 45, 45, 45, missing=20))

    found = run(bad)

    assert alarms(found) == {("width", "missing_fraction")}
    assert "10 % of the values of width are missing (at most 5 %)" in found.reasons[0]
    assert run(bad, quality={"maximum_missing": 1.0}).status == "healthy"
    # Gaps that the reference has, too, are none, nor are as many more as chance gives.
    assert run(bad, reference(width=replace(WIDTH, missing=20))).status == "healthy"
    many = window(widths(31, 31, 31, 31, missing=76))
    assert run(many, reference(width=replace(WIDTH, missing=69))).status == "healthy"


def test_categories_that_training_has_not_seen_are_bad_but_no_drift_of_the_others():
    found = run(window(replace(COLOUR, counts=(50, 50, 100))), reference(width=COLOUR))

    assert alarms(found) == {("width", "unknown_fraction")}
    found = run(window(replace(COLOUR, counts=(80, 0, 120))), reference(width=COLOUR))
    assert alarms(found) == {("width", "unknown_fraction"), DRIFT}
    assert any("a makes up 0 % instead of 50 %" in one for one in found.reasons)


@pytest.mark.parametrize("length", [300, 10_000])
def test_rows_of_a_long_tail_of_categories_are_neither_bad_nor_drift(length):
    """Each sample has some of them that the other has not, from the same distribution."""
    random, shares = np.random.default_rng(1), 1 / np.arange(1, length + 1)
    for _ in range(5):
        before, now = (random.multinomial(n, shares / shares.sum()) for n in (1000, 500))
        is_seen = before > 0
        names = tuple(f"c{number}" for number in np.flatnonzero(is_seen))
        tail = BinnedColumn("category", (), names, counts=(0, *before[is_seen].tolist()))
        counts = (int(now[~is_seen].sum()), *now[is_seen].tolist())
        found = run(window(replace(tail, counts=counts), (250, 250)), reference(width=tail))
        assert found.status == "healthy"


def test_a_feature_that_is_to_be_ignored_may_move_as_far_as_it_likes():
    drifted = window(widths(5, 5, 20, 170))

    found, ignored = run(drifted), run(drifted, drift={"ignore": ["width"]})

    assert alarms(found) == {DRIFT}
    assert "from 3 makes up 85 % instead of 25 %" in found.reasons[0]
    assert ignored.status == "healthy"
    assert DRIFT not in {(one.subject, one.metric) for one in ignored.metrics}


def test_too_few_rows_are_insufficient():
    few = window(widths(2, 2, 2, 2, missing=1), answers=(5, 4))

    found = run(few)

    assert found.status == "insufficient"
    assert found.reasons == [
        "Drift is not judged: 9 of the 100 predictions that drift needs.",
        "Performance is not judged: 0 of the 50 labelled predictions that performance needs.",
    ]
    assert [one.metric for one in found.metrics] == ["future_count"]
    # Unless something is wrong all the same.
    assert run(replace(few, rated=rated(0, 100))).status == "alarm"


def test_the_significance_is_shared_by_all_tests_of_the_run():
    def drift(subject: str, p_value: float) -> Metric:
        return Metric("drift", subject, "index", 1.0, p_value=p_value, severity="alarm")

    crowd = [drift(f"f{index}", 0.9) for index in range(9)]

    assert correct_tests([drift("width", 0.004)])[0].is_alarm
    lost = correct_tests([drift("width", 0.004), *crowd])[0]
    assert (lost.severity, lost.p_value) == ("none", pytest.approx(0.04))


def test_labels_that_the_model_does_not_know_are_wrong_answers():
    cells = (
        LabelledCount(0, 0, 60),
        LabelledCount(0, 1, 20),
        LabelledCount(1, 1, 60),
        LabelledCount(0, -1, 20),
    )
    found = run(window(rated=(*cells, LabelledCount(-1, -1, 20))))
    assert metric(found, "prediction", "accuracy").value == 120 / 180


@pytest.mark.parametrize(("times", "status"), [(1, "warning"), (100, "alarm")])
def test_an_accuracy_below_its_limit_is_an_alarm_only_if_it_is_no_chance(times, status):
    found = run(window(rated=rated(50 * times, 10 * times)))

    accuracy = metric(found, "prediction", "accuracy")
    assert found.status == accuracy.severity == status
    assert accuracy.threshold == pytest.approx(0.85)
    assert "Live accuracy is 0.833" in found.reasons[0]
    assert found.reasons[0].endswith("which may be chance.") == (status == "warning")


def test_a_low_estimate_is_an_alarm_of_its_own():
    known = replace(reference(), expectation=Expectation(row_count=2000))

    found = run(window(expected=0.6), known)

    estimate = metric(found, "prediction", "estimated_accuracy")
    assert alarms(found) == {("prediction", "estimated_accuracy")}
    assert estimate.area == "estimate"
    assert estimate.threshold == pytest.approx(0.85)
    assert "Estimated accuracy is 0.6 (0.5" in found.reasons[0]
    few = run(window(expected=0.75), replace(known, expectation=Expectation(row_count=20)))
    assert few.status == "warning"
    assert run(window(expected=0.94), known).status == "healthy"
    high = run(window(expected=1.04), known)
    assert metric(high, "prediction", "estimated_accuracy").value == 1.0
