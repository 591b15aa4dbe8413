"""Whether two samples that were counted in the same bins differ, and how much."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency, random_table

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.checks import Check, Findings, Severity, share
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.profile import PREDICTION, free_subject
from mlops_for_mle.records_monitoring import (
    ColumnCounts,
    NumericColumn,
    ReferenceColumn,
    ReferenceProfile,
    WindowCounts,
)

INDEX = "population_stability_index"
MEAN_SHIFT = "mean_shift"

# A bin of both samples together that holds fewer rows is joined to the next.
_LEAST_ROWS = 5.0
# The chi-square approximation holds where no smaller count is expected in any cell.
_LEAST_EXPECTED = 5.0
# Where it does not hold, as many tables with the same margins are drawn; the smallest p-value is
# then about 0.0001.
_DRAWN_TABLES = 9_999

_PSEUDO_COUNT = 0.5

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """How two samples differ.

    Attributes:
        p_value: Of Pearson's chi-square test that both come from one distribution; the sampling
            error of both counts. By simulation where few rows are expected in a bin, as where the
            reference is much larger than the window. None where the difference is to be ignored.
        index: The population stability index, less what sampling alone would give; never below 0.
        bins: How many bins were compared, after small ones were joined.
    """

    p_value: float | None
    index: float
    bins: int


def compare(reference: Sequence[int], current: Sequence[int], *, is_ordered: bool) -> Comparison:
    """Compare two samples.

    Args:
        reference: One count a bin.
        current: The same bins of the other sample.
        is_ordered: Whether only neighbouring bins may be joined.
    """
    table = np.array([reference, current], dtype=np.float64)
    if not table.sum(axis=1).all():
        return Comparison(1.0, 0.0, 0)
    joined = _join_small(table, is_ordered)
    bins = joined.shape[1]
    if bins < 2:
        return Comparison(1.0, 0.0, bins)
    return Comparison(_p_value(joined), _stability_index(joined), bins)


def check_drift(
    reference: ReferenceProfile, window: WindowCounts, options: MonitoringOptions
) -> Findings:
    """Compare each feature and the predictions with the reference.

    Raises:
        ConfigurationError: A feature that is to be ignored is none of the contract.
    """
    features = reference.contract.features
    unknown = [name for name in options.drift.ignore if name not in features]
    if unknown:
        raise ConfigurationError(
            f"monitoring.drift.ignore: expected features of contract {reference.contract.name}, "
            f"which are {', '.join(features)} (found {', '.join(unknown)})"
        )
    needed = options.window.minimum_rows
    if window.row_count < needed:
        return Findings(gap=f"{window.row_count} of the {needed} predictions that drift needs")
    checks: list[Check] = []
    for one in reference.features:
        name = one.column.name
        checks += _check_column(one, window.features[name], name, f"feature {name}", options)
    subject = free_subject(PREDICTION, reference.contract)
    label = f"the predicted {reference.contract.target.response_name}"
    checks += _check_column(reference.prediction, window.prediction, subject, label, options)
    return Findings(tuple(checks))


def _check_column(
    reference: ReferenceColumn,
    current: ColumnCounts,
    subject: str,
    label: str,
    options: MonitoringOptions,
) -> list[Check]:
    column = reference.column
    is_numeric = isinstance(column, NumericColumn)
    found = compare(reference.counts, current.counts, is_ordered=is_numeric)
    levels = options.drift
    severity: Severity = "none"
    if subject in levels.ignore:
        # Shown, and not one of the run's tests.
        found = replace(found, p_value=None)
    elif found.index >= levels.alarm:
        severity = "alarm"
    elif found.index >= levels.warning:
        severity = "warning"
    threshold = levels.warning if severity == "warning" else levels.alarm
    shift = _mean_shift(column, current) if isinstance(column, NumericColumn) else None
    how = _tell_shift(shift) if shift is not None else _tell_shares(reference, current)
    checks = [
        Check(
            "drift",
            subject,
            INDEX,
            found.index,
            threshold=levels.alarm,
            severity=severity,
            p_value=found.p_value,
            message=f"{label} has drifted: stability index {found.index:.2f} "
            f"({severity} from {threshold:g}), {how}",
        )
    ]
    if is_numeric:
        checks.append(Check("drift", subject, MEAN_SHIFT, shift))
    return checks


def _mean_shift(column: NumericColumn, current: ColumnCounts) -> float | None:
    return None if current.mean is None else (current.mean - column.centre) / column.scale


def _tell_shift(shift: float) -> str:
    where = "above" if shift > 0 else "below"
    return f"its mean is {abs(shift):.2f} standard deviations {where} the training data's"


def _tell_shares(reference: ReferenceColumn, current: ColumnCounts) -> str:
    """Name the category whose share has changed most."""
    before = np.array(reference.counts) / max(1, sum(reference.counts))
    now = np.array(current.counts) / max(1, sum(current.counts))
    column = reference.column
    if isinstance(column, NumericColumn) or not len(before):
        return "nothing could be compared"
    most = int(np.argmax(np.abs(now - before)))
    return f"{column.categories[most]} makes up {share(now[most])} instead of {share(before[most])}"


def _p_value(table: Counts) -> float:
    """Of the test that both rows of counts come from one distribution."""
    by_row, by_column = table.sum(axis=1), table.sum(axis=0)
    expected = np.outer(by_row, by_column) / table.sum()
    if expected.min() >= _LEAST_EXPECTED:
        return float(chi2_contingency(table, correction=False).pvalue)
    statistic = ((table - expected) ** 2 / expected).sum()
    drawn = random_table(by_row, by_column, seed=0).rvs(_DRAWN_TABLES)
    statistics = ((drawn - expected) ** 2 / expected).sum(axis=(1, 2))
    as_extreme = int((statistics >= statistic - 1e-9).sum())
    return (1 + as_extreme) / (1 + _DRAWN_TABLES)


def _stability_index(table: Counts) -> float:
    """The index of two rows of counts.

    Sampling alone gives (bins - 1)(1/n + 1/m) on average, which would make small windows look as
    if they had drifted; it is subtracted.
    """
    bins = table.shape[1]
    sizes = table.sum(axis=1, keepdims=True)
    shares = (table + _PSEUDO_COUNT) / (sizes + _PSEUDO_COUNT * bins)
    raw = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    by_chance = float((bins - 1) * (1 / sizes).sum())
    return max(0.0, raw - by_chance)


def _join_small(table: Counts, is_ordered: bool) -> Counts:
    """Join bins until each holds enough rows."""
    columns = list(table.T)
    if not is_ordered:
        columns.sort(key=lambda column: float(column.sum()))
    joined: list[Counts] = []
    growing: Counts = np.zeros(2)
    for column in columns:
        growing = growing + column
        if growing.sum() >= _LEAST_ROWS:
            joined.append(growing)
            growing = np.zeros(2)
    if growing.any():
        if joined:
            joined[-1] = joined[-1] + growing
        else:
            joined.append(growing)
    return np.array(joined).T
