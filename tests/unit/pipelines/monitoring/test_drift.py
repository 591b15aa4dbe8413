import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.checks import holm
from mlops_for_mle.pipelines.monitoring.drift import Comparison, check_drift, compare
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.profile import bin_edges
from tests.unit.pipelines.monitoring.examples import reference, window

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


def compare_samples(one: np.ndarray, other: np.ndarray, bins: int = 10) -> Comparison:
    edges = bin_edges(one, bins)
    counts = [
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        for values in (one, other)
    ]
    return compare(counts[0].tolist(), counts[1].tolist(), is_ordered=True)


def test_windows_without_drift_are_significant_as_rarely_as_they_should_be() -> None:
    random = np.random.default_rng(5)
    rounds, features, wrong, alarms = 400, 5, 0, 0
    for _ in range(rounds):
        # The reference is a small sample itself, drawn anew each time.
        found = [
            compare_samples(random.normal(size=150), random.normal(size=250))
            for _ in range(features)
        ]
        corrected = holm([one.p_value for one in found])
        wrong += any(p < 0.05 for p in corrected)
        judged = zip(corrected, found, strict=True)
        alarms += any(p < 0.05 and one.index >= 0.25 for p, one in judged)

    # 0.05 with three standard errors.
    assert wrong / rounds < 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5
    assert wrong > 0
    assert alarms == 0


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_a_shift_of_one_standard_deviation_is_found_in_every_window(shift: float) -> None:
    random = np.random.default_rng(6)
    for _ in range(50):
        found = compare_samples(random.normal(size=150), random.normal(size=250) + shift)
        assert found.p_value < 1e-4
        assert found.index > 0.25


def test_the_index_does_not_grow_because_a_window_is_small() -> None:
    random = np.random.default_rng(7)
    means = [
        np.mean(
            [
                compare_samples(random.normal(size=n), random.normal(size=n)).index
                for _ in range(100)
            ]
        )
        for n in (100, 4000)
    ]
    assert means[0] < 0.05
    assert means[1] < 0.01


def test_the_index_is_that_of_the_formula_for_large_samples() -> None:
    found = compare([500_000, 500_000], [700_000, 300_000], is_ordered=True)

    expected = 0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5)
    assert found.index == pytest.approx(expected, rel=1e-3)


@given(COUNTS, st.data(), st.booleans())
def test_any_two_rows_of_counts_can_be_compared(
    one: list[int], data: st.DataObject, is_ordered: bool
) -> None:
    other = data.draw(st.lists(st.integers(0, 500), min_size=len(one), max_size=len(one)))

    found = compare(one, other, is_ordered=is_ordered)

    assert 0 <= found.p_value <= 1
    assert np.isfinite(found.index)
    assert found.index >= 0
    assert found.bins <= len(one)
    assert compare(one, one, is_ordered=is_ordered).index == 0


def test_small_bins_are_joined_and_only_with_their_neighbours_where_order_counts() -> None:
    # Rare values at both ends; joined across the middle they would cancel out.
    one, other = [4, 96, 0], [0, 96, 4]
    assert compare(one, other, is_ordered=True).bins == 1
    assert compare([50, 2, 1, 1, 46], [48, 1, 2, 1, 48], is_ordered=False).bins == 3
    assert compare([1, 0], [0, 1], is_ordered=True) == Comparison(1.0, 0.0, 1)
    assert compare([0, 0], [5, 5], is_ordered=True).p_value == 1


def test_a_drifted_feature_is_named_with_how_far_it_has_moved() -> None:
    found = check_drift(reference(), window((5, 5, 20, 170), mean=3.5), MonitoringOptions())

    feature, shift, prediction = found.checks
    assert (feature.subject, feature.severity) == ("width", "alarm")
    assert "feature width has drifted" in feature.message
    assert "its mean is 1.50 standard deviations above the training data's" in feature.message
    assert (shift.metric, shift.value) == ("mean_shift", 1.5)
    assert (prediction.subject, prediction.severity) == ("prediction", "none")


def test_drifted_predictions_are_told_by_the_class_that_has_changed_most() -> None:
    found = check_drift(reference(), window(answers=(20, 180)), MonitoringOptions())

    prediction = found.checks[-1]
    assert prediction.severity == "alarm"
    assert "the predicted kind has drifted" in prediction.message
    assert "no makes up 10 % instead of 50 %" in prediction.message


def test_a_small_significant_difference_is_a_warning() -> None:
    counts = (1400, 800, 1000, 800)
    found = check_drift(reference(), window(counts, answers=(2000, 2000)), MonitoringOptions())
    assert found.checks[0].severity == "none"
    options = MonitoringOptions.model_validate({"drift": {"warning": 0.001, "alarm": 0.5}})
    assert check_drift(reference(), window(counts), options).checks[0].severity == "warning"


def test_with_too_few_predictions_nothing_is_said() -> None:
    found = check_drift(reference(), window((1, 1, 1, 1), answers=(9, 90)), MonitoringOptions())

    assert found.checks == ()
    assert found.gap == "99 of the 100 predictions that drift needs"


def test_a_feature_that_is_expected_to_differ_is_shown_and_does_not_count() -> None:
    options = MonitoringOptions.model_validate({"drift": {"ignore": ["width"]}})
    feature = check_drift(reference(), window((5, 5, 20, 170)), options).checks[0]
    assert (feature.severity, feature.p_value) == ("none", None)
    assert feature.value is not None
    assert feature.value > 1

    unknown = MonitoringOptions.model_validate({"drift": {"ignore": ["height"]}})
    with pytest.raises(ConfigurationError, match=r"contract small, which are width \(found height"):
        check_drift(reference(), window(), unknown)


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ([100_000, 0], [0, 500]),
        ([0, 100_000, 0], [0, 0, 500]),
        ([99_900, 100], [50, 450]),
        ([19_900, 100], [425, 75]),
        ([9_900, 100], [80, 20]),
    ],
)
def test_what_was_rare_in_a_large_reference_and_is_frequent_now_has_drifted(reference, current):
    found = compare(reference, current, is_ordered=True)

    assert found.p_value is not None
    assert found.p_value < 0.001
    assert found.index > 0.25


def test_chance_alone_is_seldom_significant_beside_a_large_reference():
    random = np.random.default_rng(7)
    shares = [0.994, 0.003, 0.002, 0.001]
    found = [
        compare(
            random.multinomial(50_000, shares), random.multinomial(500, shares), is_ordered=False
        )
        for _ in range(200)
    ]

    assert sum(one.p_value < 0.05 for one in found) <= 20
    assert max(one.index for one in found) < 0.25
