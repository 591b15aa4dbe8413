"""Bins, and statistics on their counts: laws, and what they say of samples whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlops_for_mle.contract import Feature
from mlops_for_mle.pipelines.monitoring.checks import compare, root_mean_square
from mlops_for_mle.pipelines.monitoring.reference import bin_edges, read_feature

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@given(arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)))
def test_edges_are_ascending_and_never_on_a_value_that_occurs(values):
    edges = bin_edges(values)

    assert len(edges) <= 9
    assert (np.diff(edges) > 0).all()
    if len(np.unique(values)) > 1:
        counts = np.bincount(np.searchsorted(edges, values, side="right"))
        assert len(counts) == len(edges) + 1
        assert (counts > 0).all()


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([3.0] * 50, (0, 50, 0)),
        ([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0], (95, 5)),
        ([1.0] * 50 + [1.7e308], (50, 1)),
    ],
)
def test_a_value_that_is_most_of_a_feature_has_a_bin_of_its_own(values, counts):
    column, numbers = read_feature(Feature(), pd.Series(values))
    assert column.counted(numbers).counts == counts


def test_the_index_is_that_of_the_formula_for_large_samples():
    _, index = compare([500_000, 500_000], [700_000, 300_000])

    expected = 0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5)
    assert index == pytest.approx(expected, rel=1e-3)


@given(COUNTS, st.data())
def test_any_two_rows_of_counts_can_be_compared(one, data):
    other = data.draw(st.lists(st.integers(0, 500), min_size=len(one), max_size=len(one)))

    p_value, index = compare(one, other)

    assert 0 <= p_value <= 1
    assert np.isfinite(index)
    assert index >= 0
    assert compare(other, one)[1] == pytest.approx(index)
    assert compare(one, one)[1] == 0


def test_what_is_too_rare_to_tell_is_no_difference():
    for one, other in (([4, 96, 0], [0, 96, 4]), ([1, 0], [0, 1]), ([0, 0], [5, 5])):
        assert compare(one, other) == (1.0, 0.0)


def test_what_was_rare_in_a_large_reference_and_is_frequent_now_has_drifted():
    p_value, index = compare([0, 100_000, 0], [0, 0, 500])

    assert p_value < 0.001
    assert index > 0.25


def test_errors_are_measured_with_intervals_that_hold_the_truth():
    random = np.random.default_rng(3)
    rounds, inside, confirmed = 300, 0, 0
    for _ in range(rounds):
        errors = random.normal(0, 2.2, 400)
        found = root_mean_square(400, float((errors**2).mean()), float((errors**4).mean()), 2.2)
        assert found.value == pytest.approx(float(np.sqrt((errors**2).mean())))
        assert found.p_value is not None
        inside += found.lower <= 2.2 <= found.upper
        confirmed += found.p_value < 0.05
    assert inside / rounds == pytest.approx(0.95, abs=0.04)
    # The true error is the limit itself, where a test is wrong as often as its level says.
    assert confirmed / rounds == pytest.approx(0.05, abs=0.04)
