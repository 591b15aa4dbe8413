"""How good the answers are, measured on the true labels that have arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from mlops_for_mle.contract import Target
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.checks import Check, Findings, two_sided, wilson
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, PerformanceOptions
from mlops_for_mle.pipelines.monitoring.profile import PREDICTION, free_subject
from mlops_for_mle.records_monitoring import (
    ClassifiedCell,
    ReferenceProfile,
    RegressionSums,
    WindowCounts,
)

ACCURACY = "accuracy"

Matrix = npt.NDArray[np.int64]


def check_performance(
    reference: ReferenceProfile, window: WindowCounts, options: MonitoringOptions
) -> Findings:
    """Measure the labelled predictions, where there are enough of them.

    Raises:
        ConfigurationError: The metric does not fit the task.
    """
    metric = chosen_metric(options.performance, reference.contract.target)
    needed = options.window.minimum_labelled
    found = window.labelled_count
    if found < needed:
        return Findings(gap=f"{found} of the {needed} labelled predictions that performance needs")
    limit = performance_limit(metric, reference.metrics, options.performance)
    subject = free_subject(PREDICTION, reference.contract)
    if metric == ACCURACY:
        checks = _check_classes(reference, window.classified, subject, limit, options.confidence)
    else:
        checks = _check_errors(reference, window.regression, subject, metric, limit, options)
    return Findings(tuple(checks))


def chosen_metric(options: PerformanceOptions, target: Target) -> str:
    """The metric that the limit is for.

    Raises:
        ConfigurationError: It is one of the other task.
    """
    allowed = (ACCURACY,) if target.task == "classification" else ("rmse", "mae")
    if options.metric is None:
        return allowed[0]
    if options.metric not in allowed:
        raise ConfigurationError(
            f"monitoring.performance.metric: {target.task} is measured by "
            f"{' or '.join(allowed)} (found {options.metric!r})"
        )
    return options.metric


def performance_limit(
    metric: str, validation: dict[str, float], options: PerformanceOptions
) -> float | None:
    """The stricter of the fixed limit and what validation allows; None without either."""
    limits = [] if options.limit is None else [options.limit]
    validated = validation.get(f"validation_{metric}")
    if validated is not None and options.tolerance is not None:
        limits.append(
            validated - options.tolerance
            if metric == ACCURACY
            else validated * (1 + options.tolerance)
        )
    if not limits:
        return None
    return min(1.0, max(0.0, *limits)) if metric == ACCURACY else min(limits)


def confusion_matrix(cells: Sequence[ClassifiedCell], classes: int) -> Matrix:
    """Counts by true class (rows) and predicted class; the last of each are classes unknown."""
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for cell in cells:
        row = classes if cell.actual is None else cell.actual
        column = classes if cell.predicted is None else cell.predicted
        matrix[row, column] += cell.count
    return matrix


def _check_classes(
    reference: ReferenceProfile,
    cells: Sequence[ClassifiedCell],
    subject: str,
    limit: float | None,
    confidence: float,
) -> list[Check]:
    classes = reference.contract.target.classes
    matrix = confusion_matrix(cells, len(classes))
    total = int(matrix.sum())
    right = int(np.trace(matrix[:-1, :-1]))
    accuracy = right / total
    lower, upper = wilson(right, total, confidence)
    is_below = limit is not None and accuracy < limit
    checks = [
        Check("performance", subject, "labelled_count", float(total)),
        Check(
            "performance",
            subject,
            ACCURACY,
            accuracy,
            lower,
            upper,
            limit,
            severity="alarm" if is_below else "none",
            unconfirmed="warning" if is_below else "none",
            p_value=None
            if limit is None
            else float(binomtest(right, total, limit, alternative="less").pvalue),
            message=f"live accuracy is {accuracy:.3f} ({lower:.3f} to {upper:.3f}) on {total} "
            f"labelled predictions, below {limit or 0:.3f}",
        ),
    ]
    actual, predicted = matrix.sum(axis=1)[:-1], matrix.sum(axis=0)[:-1]
    hits = np.diag(matrix)[:-1]
    present = actual > 0
    recalls = hits[present] / actual[present]
    known = (actual + predicted) > 0
    scores = 2 * hits[known] / (actual + predicted)[known]
    checks += [
        Check("performance", subject, "balanced_accuracy", _mean(recalls)),
        Check("performance", subject, "macro_f1", _mean(scores)),
    ]
    for one, hit, count in zip(classes, hits.tolist(), actual.tolist(), strict=True):
        interval = wilson(hit, count, confidence) if count else (None, None)
        recall = hit / count if count else None
        checks.append(Check("performance", one.label, "recall", recall, *interval))
    return checks


@dataclass(frozen=True)
class _Estimate:
    """A mean error with the standard error of what its test looks at."""

    value: float
    lower: float
    upper: float
    p_value: float | None


def _check_errors(
    reference: ReferenceProfile,
    sums: RegressionSums,
    subject: str,
    metric: str,
    limit: float | None,
    options: MonitoringOptions,
) -> list[Check]:
    scale = reference.target_scale
    checks = [Check("performance", subject, "labelled_count", float(sums.count))]
    for name in ("rmse", "mae"):
        threshold = limit if name == metric else None
        found = _estimate(sums, name, scale, threshold, options.confidence)
        is_above = threshold is not None and found.value > threshold
        checks.append(
            Check(
                "performance",
                subject,
                name,
                found.value,
                found.lower,
                found.upper,
                threshold,
                severity="alarm" if is_above else "none",
                unconfirmed="warning" if is_above else "none",
                p_value=found.p_value,
                message=f"live {name} is {found.value:.4g} ({found.lower:.4g} to "
                f"{found.upper:.4g}) on {sums.count} labelled predictions, above "
                f"{threshold or 0:.4g}",
            )
        )
    variation = sums.target_square - sums.target**2 / sums.count
    explained = 1 - sums.square / variation if variation > 0 else None
    checks.append(Check("performance", subject, "r2", explained))
    return checks


def _estimate(
    sums: RegressionSums, metric: str, scale: float, limit: float | None, confidence: float
) -> _Estimate:
    """An error in the target's unit; its mean (of squares for rmse) is taken as normal."""
    count = sums.count
    power = 2 if metric == "rmse" else 1
    mean = (sums.square if power == 2 else sums.absolute) / count
    second = (sums.fourth if power == 2 else sums.square) / count
    error = (max(0.0, second - mean * mean) / max(1, count - 1)) ** 0.5
    reach = two_sided(confidence) * error

    def in_unit(value: float) -> float:
        return float(scale * max(0.0, value) ** (1 / power))

    p_value = None
    if limit is not None:
        excess = mean - (limit / scale) ** power
        p_value = NormalDist().cdf(-excess / error) if error > 0 else float(excess <= 0)
    return _Estimate(in_unit(mean), in_unit(mean - reach), in_unit(mean + reach), p_value)


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
