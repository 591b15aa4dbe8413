"""What a window is looked at for: data quality, drift, performance and calibration."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Target
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.monitoring.inference import (
    Estimate,
    compare,
    mean_error,
    proportion,
    spiegelhalter,
)
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, PerformanceOptions
from mlops_for_mle.pipelines.monitoring.record import Metric
from mlops_for_mle.pipelines.monitoring.reference import PREDICTION, Column, Reference
from mlops_for_mle.pipelines.monitoring.window import (
    CONFIDENCE_BINS,
    Cell,
    ColumnCounts,
    ErrorSums,
    Window,
)

INDEX = "population_stability_index"
MEAN_SHIFT = "mean_shift"
ROWS = "rows"

Severity = Literal["none", "warning", "alarm"]


@dataclass(frozen=True)
class Check(Metric):
    """A metric, and what it amounts to before all tests of a run are corrected together.

    Attributes:
        severity: What the value amounts to.
        if_chance: What it amounts to where the test behind its ``p_value`` is not significant.
        message: What to say if it amounts to something.
    """

    severity: Severity = "none"
    if_chance: Severity = "none"
    message: str = ""


Checks = tuple[Check, ...]


def check_data_quality(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Checks:
    """Look for missing, wrong, old, future and repeated values."""
    limits, rows, subject = monitoring.quality, window.row_count, reference.subject(ROWS)
    is_judged = rows >= monitoring.window.minimum_rows
    repeated = "of the predictions repeat the features of another one"
    hours = limits.maximum_age_hours
    oldest = None if hours is None else hours * 3600
    is_old = oldest is not None and (window.age_seconds or 0) > oldest
    old = f"the newest prediction is {(window.age_seconds or 0) / 3600:.3g} hours old"
    ahead = (
        f"{window.ahead} predictions are dated ahead of the database's clock and are not looked "
        "at: set the clock of whoever has answered them"
    )
    checks = [
        Check("data_quality", subject, "row_count", float(rows)),
        _at_most(
            subject,
            "duplicate_fraction",
            (window.duplicates, rows),
            limits.maximum_duplicates,
            repeated,
            "warning",
        ),
        Check(
            *("data_quality", subject, "age_seconds", window.age_seconds),
            threshold=oldest,
            severity="warning" if is_old else "none",
            message=f"{old} (at most {hours or 0:g})",
        ),
        Check(
            *("data_quality", subject, "future_count", float(window.ahead)),
            threshold=0.0,
            severity="warning" if window.ahead else "none",
            message=ahead,
        ),
    ]
    for one in reference.features:
        counts = window.features[one.name]
        missing = limits.maximum_missing
        # Only what is missing beyond the reference's gaps counts.
        allowed = None if missing is None else min(1.0, missing + one.missing)
        wrong_type, outside = limits.maximum_wrong_type, limits.maximum_out_of_range
        measured = [
            ("missing_fraction", counts.missing, allowed, "are missing"),
            ("wrong_type_fraction", counts.wrong_type, wrong_type, "have the wrong type"),
        ]
        if (one.minimum, one.maximum) != (None, None):
            said = "are out of the contract's range"
            measured.append(("out_of_range_fraction", counts.out_of_range, outside, said))
        if one.kind == "category":
            said = "are categories that training has not seen"
            measured.append(("unknown_fraction", counts.bins[0], limits.maximum_unknown, said))
        for metric, count, limit, said in measured:
            told, most = f"of the values of {one.name} {said}", limit if is_judged else None
            checks.append(_at_most(one.name, metric, (count, rows), most, told, "alarm"))
    return tuple(checks)


def check_drift(reference: Reference, window: Window, monitoring: MonitoringOptions) -> Checks:
    """Compare each feature and the predictions with the reference.

    Raises:
        ConfigurationError: A feature that is to be ignored is none of the contract.
    """
    contract, options = reference.contract, monitoring.drift
    unknown = [name for name in options.ignore if name not in contract.features]
    if unknown:
        raise ConfigurationError(
            f"monitoring.drift.ignore: expected features of contract {contract.name}, which are "
            f"{', '.join(contract.features)} (found {', '.join(unknown)})"
        )
    if window.row_count < monitoring.window.minimum_rows:
        return ()
    label = f"the predicted {contract.target.response_name}"
    compared = [
        (one, window.features[one.name], one.name, f"feature {one.name}")
        for one in reference.features
    ]
    subject = reference.subject(PREDICTION)
    checks = []
    for column, counts, name, told in [
        *compared,
        (reference.prediction, window.prediction, subject, label),
    ]:
        found = compare(column.counts, counts.bins, is_ordered=column.is_number)
        is_ignored = name in options.ignore
        severity: Severity = "none"
        if not is_ignored and found.index >= options.warning:
            severity = "alarm" if found.index >= options.alarm else "warning"
        level = options.warning if severity == "warning" else options.alarm
        shift = None if counts.mean is None else (counts.mean - column.centre) / column.scale
        how = _largest_change(column, counts) if shift is None else _told_shift(shift)
        checks.append(
            Check(
                *("drift", name, INDEX, found.index),
                threshold=options.alarm,
                # What is ignored is shown, and is none of the run's tests.
                p_value=None if is_ignored else found.p_value,
                severity=severity,
                message=f"{told} has drifted: stability index {found.index:.2f} "
                f"({severity} from {level:g}), {how}",
            )
        )
        if column.is_number:
            checks.append(Check("drift", name, MEAN_SHIFT, shift))
    return tuple(checks)


def check_performance(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Checks:
    """Measure the answers by the labels that have arrived, where there are enough of them.

    Raises:
        ConfigurationError: The metric does not fit the task.
    """
    metric = chosen_metric(monitoring.performance, reference.contract.target)
    count = window.labelled_count
    if count < monitoring.window.minimum_labelled:
        return ()
    limit = performance_limit(metric, reference.manifest.metrics, monitoring.performance)
    subject, confidence = reference.subject(PREDICTION), monitoring.confidence
    counted = Check("performance", subject, "labelled_count", float(count))
    if metric == "accuracy":
        return (counted, *_check_classes(reference, window.cells, limit, confidence))
    return (counted, *_check_errors(reference, window.errors, metric, limit, confidence))


def check_calibration(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Checks:
    """Compare probabilities with how often the answers were right; nothing without any."""
    rated = [cell for cell in window.cells if cell.confidence_bin is not None]
    total = sum(cell.count for cell in rated)
    if not total or total < monitoring.window.minimum_labelled:
        return ()
    steps, error = [], 0.0
    for step in sorted({cell.confidence_bin or 0 for cell in rated}):
        cells = [cell for cell in rated if cell.confidence_bin == step]
        count, right = sum(one.count for one in cells), sum(one.right for one in cells)
        sure = sum(one.confidence for one in cells)
        error += abs(right - sure) / total
        name = f"confidence {step / CONFIDENCE_BINS:g} to {(step + 1) / CONFIDENCE_BINS:g}"
        found = proportion(right, count, monitoring.confidence)
        steps.append(Check("calibration", name, "accuracy", *found[:3], threshold=sure / count))
    limit, subject = monitoring.calibration.maximum_error, reference.subject(PREDICTION)
    sure = sum(cell.confidence for cell in rated) / total
    right_share = sum(cell.right for cell in rated) / total
    p_value = spiegelhalter(
        sum(cell.calibration_sum for cell in rated),
        sum(cell.calibration_variance for cell in rated),
    )
    main = Check(
        *("calibration", subject, "expected_calibration_error", error),
        threshold=limit,
        p_value=p_value,
        severity="warning" if error > limit else "none",
        message=f"the probabilities are {'too sure' if sure > right_share else 'not sure enough'}: "
        f"expected calibration error {error:.3f} (at most {limit:g}), {sure:.3f} sure and "
        f"{right_share:.3f} right on average",
    )
    brier = sum(cell.brier for cell in rated) / total
    return (
        main,
        Check("calibration", subject, "brier_score", brier),
        Check("calibration", subject, "mean_confidence", sure),
        *steps,
    )


def chosen_metric(options: PerformanceOptions, target: Target) -> str:
    """The metric that the limit is for.

    Raises:
        ConfigurationError: It is one of the other task.
    """
    allowed = ("accuracy",) if target.task == "classification" else ("rmse", "mae")
    if options.metric is not None and options.metric not in allowed:
        raise ConfigurationError(
            f"monitoring.performance.metric: {target.task} is measured by "
            f"{' or '.join(allowed)} (found {options.metric!r})"
        )
    return options.metric or allowed[0]


def performance_limit(
    metric: str, validation: dict[str, float], options: PerformanceOptions
) -> float | None:
    """The stricter of the fixed limit and what validation allows; None without either."""
    limits = [] if options.limit is None else [options.limit]
    validated = validation.get(f"validation_{metric}")
    if validated is not None and options.tolerance is not None:
        is_accuracy = metric == "accuracy"
        worse = validated - options.tolerance, validated * (1 + options.tolerance)
        limits.append(worse[0] if is_accuracy else worse[1])
    if not limits:
        return None
    return min(1.0, max(0.0, *limits)) if metric == "accuracy" else min(limits)


def confusion_matrix(cells: Iterable[Cell], classes: int) -> npt.NDArray[np.int64]:
    """Counts by true class (rows) and predicted class; the last of each are classes unknown."""
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for cell in cells:
        row = classes if cell.actual is None else cell.actual
        matrix[row, classes if cell.predicted is None else cell.predicted] += cell.count
    return matrix


def as_share(value: float) -> str:
    """A share for people, such as ``4.2 %``."""
    return f"{100 * value:.3g} %"


def _told_shift(shift: float) -> str:
    where = "above" if shift > 0 else "below"
    return f"its mean is {abs(shift):.2f} standard deviations {where} the training data's"


def _largest_change(column: Column, current: ColumnCounts) -> str:
    if column.is_number:
        return "it has no values"
    before = np.array(column.counts) / max(1, sum(column.counts))
    now = np.array(current.bins) / max(1, sum(current.bins))
    most = int(np.argmax(np.abs(now - before)))
    name = ("what training has not seen", *column.categories)[most]
    return f"{name} makes up {as_share(now[most])} instead of {as_share(before[most])}"


def _check_classes(
    reference: Reference, cells: Iterable[Cell], limit: float | None, confidence: float
) -> Iterable[Check]:
    classes, subject = reference.contract.target.classes, reference.subject(PREDICTION)
    matrix = confusion_matrix(cells, len(classes))
    total, right = int(matrix.sum()), int(np.trace(matrix[:-1, :-1]))
    found = proportion(right, total, confidence, limit)
    yield _limited(subject, "accuracy", found, limit, total, is_worse=found.value < (limit or 0))
    actual, predicted = matrix.sum(axis=1)[:-1], matrix.sum(axis=0)[:-1]
    hits = np.diag(matrix)[:-1]
    present, known = actual > 0, (actual + predicted) > 0
    recalls, scores = hits[present] / actual[present], 2 * hits[known] / (actual + predicted)[known]
    for metric, values in (("balanced_accuracy", recalls), ("macro_f1", scores)):
        yield Check("performance", subject, metric, float(values.mean()) if len(values) else None)
    for one, hit, count in zip(classes, hits.tolist(), actual.tolist(), strict=True):
        recall = proportion(hit, count, confidence)[:3] if count else (None, None, None)
        yield Check("performance", one.label, "recall", *recall)


def _check_errors(
    reference: Reference, sums: ErrorSums, metric: str, limit: float | None, confidence: float
) -> Iterable[Check]:
    scale, subject = reference.target_scale, reference.subject(PREDICTION)
    for name, total, squares, power in (
        ("rmse", sums.square, sums.fourth, 2),
        ("mae", sums.absolute, sums.square, 1),
    ):
        largest = limit if name == metric else None
        relative = None if largest is None else largest / scale
        found = mean_error(sums.count, total, squares, power, confidence, relative)
        value, lower, upper = (scale * one for one in found[:3])
        found = Estimate(value, lower, upper, found.p_value)
        is_worse = largest is not None and value > largest
        yield _limited(subject, name, found, largest, sums.count, is_worse=is_worse)
    variation = sums.target_square - sums.target**2 / sums.count
    explained = 1 - sums.square / variation if variation > 0 else None
    yield Check("performance", subject, "r2", explained)


def _limited(
    subject: str, metric: str, found: Estimate, limit: float | None, count: int, *, is_worse: bool
) -> Check:
    """A metric with a limit: an alarm where it is worse, and only a warning if that is chance."""
    beyond = "below" if metric == "accuracy" else "above"
    return Check(
        *("performance", subject, metric, found.value, found.lower, found.upper, limit),
        p_value=found.p_value,
        severity="alarm" if is_worse else "none",
        if_chance="warning" if is_worse else "none",
        message=f"live {metric} is {found.value:.4g} ({found.lower:.4g} to {found.upper:.4g}) on "
        f"{count} labelled predictions, {beyond} {limit or 0:.4g}",
    )


def _at_most(
    subject: str,
    metric: str,
    part: tuple[int, int],
    limit: float | None,
    said: str,
    severity: Severity,
) -> Check:
    """A share, given as a count and of how many, with a limit that it must not exceed."""
    count, whole = part
    value = count / whole if whole else None
    is_over = value is not None and limit is not None and value > limit
    return Check(
        *("data_quality", subject, metric, value),
        threshold=limit,
        severity=severity if is_over else "none",
        message=f"{as_share(value or 0)} {said} (at most {as_share(limit or 0)})",
    )
