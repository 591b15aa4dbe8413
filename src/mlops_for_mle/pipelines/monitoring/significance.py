"""Statistics of counts and sums: intervals, tests, and how far two samples lie apart.

SciPy is imported inside the functions, because every `kedro` command imports this module.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

# Of the intervals that are shown, and of any false alarm over all tests of a run: report.html
# names both.
CONFIDENCE, SIGNIFICANCE = 0.95, 0.01
# Bins that have fewer rows of both samples together are merged into one.
_LEAST_ROWS = 5
_PSEUDO_COUNT = 0.5


class Estimate(NamedTuple):
    """A value with its interval, and the p-value of it being no worse than its limit."""

    value: float
    lower: float
    upper: float
    limit: float
    p_value: float


def compare(reference: Sequence[int], current: Sequence[int]) -> tuple[float, float]:
    """Compare the counts of two samples in the same bins, with the sampling error of both.

    Gives the p-value of Pearson's chi-square test that both come from one distribution, and the
    population stability index, less what sampling alone would give, and never below 0.
    """
    from scipy.stats import chi2_contingency

    table = np.array([reference, current], dtype=np.int64)
    is_rare = table.sum(axis=0) < _LEAST_ROWS
    table = np.column_stack([table[:, ~is_rare], table[:, is_rare].sum(axis=1)])
    table = table[:, table.any(axis=0)]
    bins, sizes = table.shape[1], table.sum(axis=1, keepdims=True)
    if bins < 2 or not sizes.all():
        return 1.0, 0.0
    p_value = chi2_contingency(table, correction=False).pvalue
    shares = (table + _PSEUDO_COUNT) / (sizes + _PSEUDO_COUNT * bins)
    index = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    # The mean of the index by sampling alone.
    by_chance = float((bins - 1) * (1 / sizes).sum())
    return float(p_value), max(0.0, index - by_chance)


def proportion(successes: int, trials: int, limit: float) -> Estimate:
    """A proportion, its interval (Wilson 1927), and the exact p-value that it reaches a limit."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    p_value = float(binomtest(successes, trials, limit, alternative="less").pvalue)
    return Estimate(successes / trials, float(interval.low), float(interval.high), limit, p_value)


def root_mean_square(count: float, mean: float, squares: float, limit: float) -> Estimate:
    """The root of a mean squared error, the mean taken as normal; at most a limit.

    ``mean`` is that of squared errors, ``squares`` that of their squares.
    """
    error = (max(0.0, squares - mean * mean) / max(1, count - 1)) ** 0.5
    reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * error
    value, lower, upper = (max(0.0, square) ** 0.5 for square in (mean, mean - reach, mean + reach))
    excess = mean - limit**2
    p_value = NormalDist().cdf(-excess / error) if error > 0 else float(excess <= 0)
    return Estimate(value, lower, upper, limit, p_value)
