"""Statistics of counts and sums: intervals, tests, and how far two samples lie apart.

SciPy is imported inside the functions, because every `kedro` command imports this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Bins are joined until both samples together have so many rows in each.
_LEAST_ROWS = 5.0
# The chi-square approximation holds where no smaller count is expected in any cell; elsewhere so
# many tables with the same margins are drawn, so that the smallest p-value is about 0.0001.
_LEAST_EXPECTED = 5.0
_DRAWN_TABLES = 9_999
_PSEUDO_COUNT = 0.5

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """How two samples differ, with the sampling error of both.

    The p-value is Pearson's chi-square test's that both come from one distribution; the index is
    the population stability index, less what sampling alone would give, and never below 0.
    """

    p_value: float
    index: float


class Estimate(NamedTuple):
    """A value with its interval, and the p-value of it being no worse than a limit."""

    value: float
    lower: float
    upper: float
    p_value: float | None


def compare(reference: Sequence[int], current: Sequence[int], *, is_ordered: bool) -> Comparison:
    """Compare the counts of two samples in each bin; of ordered ones only neighbours are joined."""
    from scipy.stats import MonteCarloMethod, chi2_contingency
    from scipy.stats.contingency import expected_freq

    table = _join_small(np.array([reference, current], dtype=np.float64), is_ordered)
    bins, sizes = table.shape[1], table.sum(axis=1, keepdims=True)
    if bins < 2 or not sizes.all():
        return Comparison(1.0, 0.0)
    method = None
    if expected_freq(table).min() < _LEAST_EXPECTED:
        method = MonteCarloMethod(_DRAWN_TABLES, rng=np.random.default_rng(0))
    test = chi2_contingency(table.astype(np.int64), correction=False, method=method)
    shares = (table + _PSEUDO_COUNT) / (sizes + _PSEUDO_COUNT * bins)
    raw = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    # The mean of the index by sampling alone.
    by_chance = float((bins - 1) * (1 / sizes).sum())
    return Comparison(float(test.pvalue), max(0.0, raw - by_chance))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979), however these depend on each other."""
    given = np.array(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    tests = np.arange(len(given), 0, -1)
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(tests * given[order]))
    return list(corrected.tolist())


def proportion(
    successes: int, trials: int, confidence: float, limit: float | None = None
) -> Estimate:
    """A proportion, its interval (Wilson 1927), and the exact p-value that it reaches a limit."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    p_value = None
    if limit is not None:
        p_value = float(binomtest(successes, trials, limit, alternative="less").pvalue)
    return Estimate(successes / trials, float(interval.low), float(interval.high), p_value)


def mean_error(
    count: float, total: float, squares: float, power: int, confidence: float, limit: float | None
) -> Estimate:
    """The mean of errors to a power, in their own unit, taken as normal; at most a limit.

    ``total`` is the sum of the powers, ``squares`` that of their squares: with power 1 of a mean
    absolute error, with power 2 of the root of a mean squared one.
    """
    mean = total / count
    error = (max(0.0, squares / count - mean * mean) / max(1, count - 1)) ** 0.5
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    value, lower, upper = (
        max(0.0, one) ** (1 / power) for one in (mean, mean - reach, mean + reach)
    )
    p_value = None
    if limit is not None:
        excess = mean - limit**power
        p_value = NormalDist().cdf(-excess / error) if error > 0 else float(excess <= 0)
    return Estimate(value, lower, upper, p_value)


def same_share(measured: float, expected: float, count: float) -> float:
    """The p-value that a share of so many trials is the expected one, taken as normal."""
    deviation = (expected * (1 - expected) / count) ** 0.5
    if deviation == 0:
        return float(measured == expected)
    return 2 * NormalDist().cdf(-abs(measured - expected) / deviation)


def _join_small(table: Counts, is_ordered: bool) -> Counts:
    columns = list(table.T)
    if not is_ordered:
        columns.sort(key=lambda column: float(column.sum()))
    joined: list[Counts] = []
    for column in columns:
        if joined and joined[-1].sum() < _LEAST_ROWS:
            joined[-1] = joined[-1] + column
        else:
            joined.append(column)
    if len(joined) > 1 and joined[-1].sum() < _LEAST_ROWS:
        joined[-2:] = [joined[-2] + joined[-1]]
    return np.array(joined).T
