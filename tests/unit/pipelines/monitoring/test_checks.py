import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mlops_for_mle.pipelines.monitoring.checks import holm, wilson


def test_p_values_are_corrected_as_holm_has_written() -> None:
    # The worked example of Holm's procedure: 4 * 0.005, 3 * 0.01, 2 * 0.03, then never smaller.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrected_p_values_keep_their_order_and_only_grow(p_values: list[float]) -> None:
    corrected = holm(p_values)

    assert all(0 <= p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    ranked = [c for _, c in sorted(zip(p_values, corrected, strict=True))]
    assert ranked == sorted(ranked)


@given(st.integers(1, 2000), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_proportion_is_scipys(
    trials: int, data: st.DataObject, confidence: float
) -> None:
    successes = data.draw(st.integers(0, trials))

    expected = binomtest(successes, trials).proportion_ci(confidence, "wilson")

    found = wilson(successes, trials, confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
