"""From counts to a judged release: data quality, drift, performance and its estimate.

SciPy is imported inside the functions, because every `kedro` command imports this module.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from operator import attrgetter
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from mlops_for_mle.pipelines.monitoring.counting import Window
from mlops_for_mle.pipelines.monitoring.reference import Reference

Status = Literal["insufficient", "healthy", "warning", "alarm"]
Area = Literal["data_quality", "drift", "performance", "estimate"]
Severity = Literal["none", "warning", "alarm"]

_INDEX = "population_stability_index"
_FAULTS = {"missing": "are missing", "unknown": "are categories that training has not seen"}
# Of the intervals that are shown, and of any false alarm over all tests of a run: report.html
# names both.
_CONFIDENCE, _SIGNIFICANCE = 0.95, 0.01
# Bins that have fewer rows of both samples together are merged into one.
_MIN_ROWS = 5
_PSEUDO_COUNT = 0.5


class Estimate(NamedTuple):
    """A value with its interval, and the p-value of it being no worse than its limit."""

    value: float
    lower: float
    upper: float
    limit: float
    p_value: float


@dataclass(frozen=True)
class Metric:
    """A row of ``monitoring_metrics``, and what it amounts to.

    Attributes:
        subject: A feature's name, ``prediction`` or ``rows`` (all of the window).
        p_value: Of the test behind it; corrected for all tests of the run when it is judged.
        severity: What the value amounts to, less where it may be chance, see ``correct_tests``.
        message: What people are told of it then.
        segment: The segment of the window that was measured, such as ``region=north``; else empty.
    """

    area: Area
    subject: str
    metric: str
    value: float
    lower: float | None = None
    upper: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    severity: Severity = "none"
    message: str = ""
    segment: str = ""

    @property
    def is_alarm(self) -> bool:
        """Whether it alone makes the run an alarm."""
        return self.severity == "alarm"


@dataclass(frozen=True, kw_only=True)
class MonitoringRun:
    """A row of ``monitoring_runs``, to which the database gives ``id`` and ``created_at``."""

    contract: str
    release: str
    model_version: int
    window_from: datetime | None
    window_to: datetime | None
    prediction_count: int
    labelled_count: int
    labelled_from: datetime | None
    labelled_to: datetime | None
    status: Status
    reasons: list[str]
    id: int | None = None
    created_at: datetime | None = None
    metrics: tuple[Metric, ...] = ()


def judge(reference: Reference, windows: dict[str, Window]) -> MonitoringRun:
    """Look at everything, correct all tests together, and say in which state the release is.

    Segments are judged as the whole is, at most as a warning; their tests are corrected among
    themselves, so that the whole is judged as without them.
    """
    whole, needed = windows[""], reference.options.window
    by_segment = {name: _check(name, reference, windows[name]) for name in windows}
    metrics = correct_tests(by_segment.pop(""))
    segment_metrics = [
        replace(metric, severity="warning" if metric.is_alarm else "none")
        for metric in correct_tests(list(chain(*by_segment.values())))
    ]
    reasons = [
        _sentence(metric)
        for severity in ("alarm", "warning")
        for metric in metrics
        if metric.severity == severity
    ]
    is_small = whole.row_count < needed.minimum_rows
    status: Status = "insufficient" if is_small else "healthy"
    severities = {metric.severity for metric in (*metrics, *segment_metrics)}
    if severities != {"none"}:
        status = "alarm" if "alarm" in severities else "warning"
    if is_small:
        shortfall = f"{whole.row_count} of the {needed.minimum_rows} predictions that drift needs"
        reasons.append(f"Drift is not judged: {shortfall}.")
    elif not reasons:
        training = f"the {reference.manifest.snapshot.row_count} rows of the training snapshot"
        reasons.append(f"{whole.row_count} predictions look like {training}.")
    if whole.labelled_count < needed.minimum_labelled:
        shortfall = f"{whole.labelled_count} of the {needed.minimum_labelled} labelled predictions"
        reasons.append(f"Performance is not judged: {shortfall} that performance needs.")
    return MonitoringRun(
        contract=reference.contract.name,
        release=reference.manifest.release,
        model_version=reference.manifest.version,
        window_from=whole.window_from,
        window_to=whole.window_to,
        prediction_count=whole.row_count,
        labelled_count=whole.labelled_count,
        labelled_from=whole.labelled_from,
        labelled_to=whole.labelled_to,
        status=status,
        reasons=[*reasons, *_worst_segment(segment_metrics)],
        metrics=(*metrics, *segment_metrics),
    )


def correct_tests(metrics: list[Metric]) -> list[Metric]:
    """Correct all tests together; what may be chance is nothing, but of performance a warning."""
    tests = sum(metric.p_value is not None for metric in metrics)
    judged = []
    for metric in metrics:
        if metric.p_value is None:
            judged.append(metric)
            continue
        # Bonferroni's correction holds however tests depend on each other.
        p_value, severity = min(1.0, tests * metric.p_value), metric.severity
        if p_value >= _SIGNIFICANCE:
            is_loss = metric.is_alarm and metric.area in ("performance", "estimate")
            severity = "warning" if is_loss else "none"
        judged.append(replace(metric, p_value=p_value, severity=severity))
    return judged


def _check(segment: str, reference: Reference, window: Window) -> list[Metric]:
    """Look at a segment of the window, or at all of it and then at its data quality too."""
    metrics = [*_check_performance(reference, window)]
    if window.row_count >= reference.options.window.minimum_rows:
        metrics += _check_estimate(reference, window)
        metrics += _check_drift(segment, reference, window)
        metrics += [] if segment else _check_data_quality(reference, window)
    if not segment:
        ahead = window.ahead
        future = Metric("data_quality", "rows", "future_count", ahead, threshold=0)
        severity: Severity = "warning" if ahead else "none"
        told = f"{ahead} predictions are dated ahead of the database's clock and are not looked at"
        metrics.append(replace(future, severity=severity, message=told))
    return [replace(metric, segment=segment) for metric in metrics]


def _check_data_quality(reference: Reference, window: Window) -> Iterator[Metric]:
    """Look for missing and unknown values."""
    limits = dict(reference.options.quality)
    for name in reference.contract.features:
        column, current = reference.columns[name], window.columns[name]
        total = sum(column.counts) + column.missing
        # Only what is missing beyond the reference's gaps counts, and what is unknown beyond those
        # that it lacks by chance: about the share of those that it has once (Good 1953).
        counts = {"missing": (current.missing, column.missing)}
        if column.kind == "category":
            counts["unknown"] = current.counts[0], column.counts.count(1)
        for fault, (count, usual) in counts.items():
            share, limit = count / window.row_count, limits[f"maximum_{fault}"]
            limit = min(1.0, limit + usual / total)
            p_value, _ = compare((usual, total - usual), (count, window.row_count - count))
            measured = Metric("data_quality", name, f"{fault}_fraction", share, threshold=limit)
            message = f"{percent(share)} of the values of {name} {_FAULTS[fault]}"
            message += f" (at most {percent(limit)})"
            severity: Severity = "alarm" if share > limit else "none"
            yield replace(measured, p_value=p_value, severity=severity, message=message)


def _check_drift(segment: str, reference: Reference, window: Window) -> Iterator[Metric]:
    """Compare each feature and the predictions with the reference."""
    options = reference.options.drift
    for name, column in reference.columns_by_segment[segment].items():
        if name in options.ignore:
            continue
        current = window.columns[name]
        table = np.array([column.counts, current.counts])
        if not column.is_number:
            # Of rare categories each sample has others, so those of which the reference is expected
            # to have few rows are one bin, with the unknown ones; where it has none that are rare,
            # `quality` alone judges the unknown.
            unknown, known = table[:, 0], table[:, 1:]
            is_rare = known.sum(axis=0) * table[0].sum() < _MIN_ROWS * table.sum()
            rare = known[:, is_rare].sum(axis=1)
            rare += unknown * bool(rare[0])
            table = np.column_stack([known[:, ~is_rare], rare])
        p_value, index = compare(*table)
        severity: Severity = "warning" if index >= options.warning else "none"
        if index >= options.alarm:
            severity = "alarm"
        title = f"feature {name}"
        if name == reference.prediction_column:
            title = f"the predicted {reference.contract.target.response_name}"
        bins = column.compare_shares(current)
        most, before, now = max(bins, key=lambda shares: abs(shares[2] - shares[1]))
        message = f"drift of {title}: stability index {index:.2f}, "
        message += f"{most} makes up {percent(now)} instead of {percent(before)}"
        measured = Metric("drift", name, _INDEX, index, threshold=options.alarm)
        yield replace(measured, p_value=p_value, severity=severity, message=message)


def _check_performance(reference: Reference, window: Window) -> Iterator[Metric]:
    """Measure the predictions by the labels that have arrived, where there are enough of them."""
    count, limit = window.labelled_count, performance_limit(reference)
    if count < reference.options.window.minimum_labelled:
        return
    if reference.contract.target.classes:
        correct = sum(cell.count for cell in window.rated if cell.predicted == cell.actual >= 0)
        name, estimate = "accuracy", proportion(correct, count, limit)
    else:
        [sums] = window.rated
        mean, squares = sums.square / count, sums.fourth / count
        name, estimate = "rmse", root_mean_square(count, mean, squares, limit)
    yield _measure("performance", reference.prediction_column, name, estimate, count)


def _check_estimate(reference: Reference, window: Window) -> Iterator[Metric]:
    """Judge how good the predictions are expected to be."""
    expectation, expected, rows = reference.expectation, window.expected, window.row_count
    if expected is None:
        return
    name, limit = "estimated_accuracy", performance_limit(reference)
    # Validation rows are a sample, too, so an estimate is as sure as so many labels would be.
    effective_labels = 1 / (1 / rows + 1 / expectation.row_count)
    if expectation.errors:
        name, squares = "estimated_rmse", expected**2 * (1 + expectation.variation**2)
        estimate = root_mean_square(effective_labels, expected, squares, limit)
    else:
        expected = min(1.0, max(0.0, expected))
        estimate = proportion(round(expected * effective_labels), round(effective_labels), limit)
        estimate = estimate._replace(value=expected)
    yield _measure("estimate", reference.prediction_column, name, estimate, rows)


def performance_limit(reference: Reference) -> float:
    """The least accuracy or the largest RMSE, by the release's validation rows."""
    tolerance, validated = reference.options.tolerance, reference.manifest.metrics
    if reference.contract.target.classes:
        return max(0.0, validated["validation_accuracy"] - tolerance)
    return validated["validation_rmse"] * (1 + tolerance)


def percent(share: float) -> str:
    """A share for people."""
    return f"{100 * share:.3g} %"


def _worst_segment(metrics: list[Metric]) -> list[str]:
    """A sentence on it: by labels where there are enough, else as estimated, else by its drift."""
    for name in ("accuracy", "rmse", "estimated_accuracy", "estimated_rmse", _INDEX):
        candidates = [metric for metric in metrics if metric.metric == name]
        if candidates:
            choose = min if name.endswith("accuracy") else max
            worst = choose(candidates, key=attrgetter("value"))
            return [f"The worst segment is {worst.segment}: {worst.message}."]
    return []


def _sentence(metric: Metric) -> str:
    message = metric.message[0].upper() + metric.message[1:]
    if metric.p_value is None:
        return f"{message}."
    doubt = ", which may be chance" if metric.p_value >= _SIGNIFICANCE else ""
    return f"{message}; p {metric.p_value:.2g}{doubt}."


def _measure(area: Area, prediction: str, metric: str, estimate: Estimate, count: int) -> Metric:
    """A measure of performance that must not be worse than its limit."""
    value, lower, upper, limit, _ = estimate
    is_accuracy = metric.endswith("accuracy")
    is_worse = value < limit if is_accuracy else value > limit
    live, labelled = ("live ", "labelled ") if area == "performance" else ("", "")
    interval = f"{value:.4g} ({lower:.4g} to {upper:.4g})"
    message = f"{live}{metric.replace('_', ' ')} is {interval} on {count} {labelled}predictions"
    if is_worse:
        message += f", {'below' if is_accuracy else 'above'} {limit:.4g}"
    severity: Severity = "alarm" if is_worse else "none"
    return Metric(area, prediction, metric, *estimate, severity=severity, message=message)


def compare(reference: Sequence[int], current: Sequence[int]) -> tuple[float, float]:
    """Compare the counts of two samples in the same bins, with the sampling error of both.

    Gives the p-value of Pearson's chi-square test that both come from one distribution, and the
    population stability index, less what sampling alone would give, and never below 0.
    """
    from scipy.stats import chi2_contingency

    table = np.array([reference, current], dtype=np.int64)
    is_rare = table.sum(axis=0) < _MIN_ROWS
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

    interval = binomtest(successes, trials).proportion_ci(_CONFIDENCE, method="wilson")
    p_value = float(binomtest(successes, trials, limit, alternative="less").pvalue)
    return Estimate(successes / trials, float(interval.low), float(interval.high), limit, p_value)


def root_mean_square(count: float, mean: float, squares: float, limit: float) -> Estimate:
    """The root of a mean squared error, the mean taken as normal; at most a limit.

    ``mean`` is that of squared errors, ``squares`` that of their squares.
    """
    error = (max(0.0, squares - mean * mean) / max(1, count - 1)) ** 0.5
    reach = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2) * error
    value, lower, upper = (max(0.0, square) ** 0.5 for square in (mean, mean - reach, mean + reach))
    excess = mean - limit**2
    p_value = NormalDist().cdf(-excess / error) if error > 0 else float(excess <= 0)
    return Estimate(value, lower, upper, limit, p_value)
