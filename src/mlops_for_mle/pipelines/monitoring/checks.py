"""From counts to a judged release: data quality, drift, performance and its estimate."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from mlops_for_mle.pipelines.monitoring.counting import Cell, ColumnCounts, Window
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, PerformanceOptions
from mlops_for_mle.pipelines.monitoring.record import Area, Metric, MonitoringRun, Severity, Status
from mlops_for_mle.pipelines.monitoring.reference import (
    PREDICTION,
    Column,
    Reference,
    performance_metric,
)
from mlops_for_mle.pipelines.monitoring.significance import (
    Estimate,
    compare,
    holm,
    mean_error,
    proportion,
    same_share,
)


def judge(reference: Reference, window: Window, monitoring: MonitoringOptions) -> MonitoringRun:
    """Look at everything, correct all tests together, and say in which state the release is."""
    metrics = confirm(
        [
            *check_performance(reference, window, monitoring),
            *check_estimate(reference, window, monitoring),
            *check_drift(reference, window, monitoring),
            *check_data_quality(reference, window, monitoring),
        ],
        monitoring.significance,
    )
    parts = check_segments(reference, window, monitoring)
    rows, labelled, needed = window.row_count, window.labelled_count, monitoring.window
    alarms = [one for one in metrics if one.is_alarm]
    warnings = [one for one in metrics if one.severity == "warning"]
    status: Status = "healthy" if rows >= needed.minimum_rows else "insufficient"
    if alarms:
        status = "alarm"
    elif warnings or any(one.severity == "warning" for one in parts):
        status = "warning"
    reasons = [_sentence(one, monitoring.significance) for one in (*alarms, *warnings)]
    if rows < needed.minimum_rows:
        few = f"{rows} of the {needed.minimum_rows} predictions that drift needs"
        reasons.append(f"Drift is not judged: {few}.")
    elif not reasons:
        trained_on = reference.manifest.snapshot.row_count
        reasons = [f"{rows} predictions look like the {trained_on} rows of the training snapshot."]
    if labelled < needed.minimum_labelled:
        few = f"{labelled} of the {needed.minimum_labelled} labelled predictions"
        reasons.append(f"Performance is not judged: {few} that performance needs.")
    reasons += worst_segment(parts, performance_metric(reference.contract, monitoring))
    return MonitoringRun(
        contract=reference.contract.name,
        release=reference.manifest.release,
        model_version=reference.manifest.version,
        window_from=window.window_from,
        window_to=window.window_to,
        prediction_count=rows,
        labelled_count=labelled,
        labelled_from=window.labelled_from,
        labelled_to=window.labelled_to,
        status=status,
        reasons=reasons,
        metrics=(*metrics, *parts),
    )


def confirm(metrics: Iterable[Metric], significance: float) -> tuple[Metric, ...]:
    """Correct all tests together, and let what may be chance be no alarm.

    A loss of performance that no test confirms stays a warning, any other difference is nothing.
    """
    given = tuple(metrics)
    corrected = iter(holm([one.p_value for one in given if one.p_value is not None]))
    return tuple(
        one if one.p_value is None else _tested(one, next(corrected), significance) for one in given
    )


def check_data_quality(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Iterator[Metric]:
    """Look for missing, wrong, old and future values."""
    limits, rows, subject = monitoring.quality, window.row_count, reference.subject("rows")
    is_judged, hours = rows >= monitoring.window.minimum_rows, limits.maximum_age_hours
    oldest = None if hours is None else hours * 3600
    yield Metric("data_quality", subject, "row_count", rows)
    said = "is how old the newest prediction is"
    yield _at_most("warning", subject, "age_seconds", window.age_seconds, oldest, said)
    said = "predictions are dated ahead of the database's clock and are not looked at"
    yield _at_most("warning", subject, "future_count", window.ahead, 0, said)
    for one in reference.features:
        counts, missing = window.features[one.name], limits.maximum_missing
        # Only what is missing beyond the reference's gaps counts.
        allowed = None if missing is None else min(1.0, missing + one.missing)
        wrong, outside = limits.maximum_wrong_type, limits.maximum_out_of_range
        measured = [
            ("missing", counts.missing, allowed, "are missing"),
            ("wrong_type", counts.wrong_type, wrong, "have the wrong type"),
        ]
        if (one.minimum, one.maximum) != (None, None):
            said = "are out of the contract's range"
            measured.append(("out_of_range", counts.out_of_range, outside, said))
        if one.kind == "category":
            said = "are categories that training has not seen"
            measured.append(("unknown", counts.bins[0], limits.maximum_unknown, said))
        for name, count, limit, said in measured:
            share, most = count / rows if rows else None, limit if is_judged else None
            told = f"of the values of {one.name} {said}"
            yield _at_most("alarm", one.name, f"{name}_fraction", share, most, told)


def check_drift(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Iterator[Metric]:
    """Compare each feature and the predictions with the reference."""
    if window.row_count < monitoring.window.minimum_rows:
        return
    options, answered = monitoring.drift, reference.prediction
    label = f"the predicted {reference.contract.target.response_name}"
    compared = [(answered, window.prediction, reference.subject(PREDICTION), label)]
    for one in reference.features:
        compared.append((one, window.features[one.name], one.name, f"feature {one.name}"))
    for column, counts, name, told in compared:
        found = compare(column.counts, counts.bins, is_ordered=column.is_number)
        is_ignored = name in options.ignore
        severity: Severity = "none"
        if not is_ignored and found.index >= min(options.warning, options.alarm):
            severity = "alarm" if found.index >= options.alarm else "warning"
        level = options.warning if severity == "warning" else options.alarm
        shift = None if counts.mean is None else (counts.mean - column.centre) / column.scale
        yield Metric(
            *("drift", name, "population_stability_index", found.index),
            threshold=options.alarm,
            # What is ignored is shown, and is none of the run's tests.
            p_value=None if is_ignored else found.p_value,
            severity=severity,
            message=f"{told} has drifted: stability index {found.index:.2f} "
            f"({severity} from {level:g}), {_change(column, counts, shift)}",
        )
        if column.is_number:
            yield Metric("drift", name, "mean_shift", shift)


def check_performance(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Iterator[Metric]:
    """Measure the answers by the labels that have arrived, where there are enough of them."""
    target, metric = reference.contract.target, performance_metric(reference.contract, monitoring)
    if window.labelled_count < monitoring.window.minimum_labelled:
        return
    subject, confidence = reference.subject(PREDICTION), monitoring.confidence
    limit = performance_limit(metric, reference.manifest.metrics, monitoring.performance)
    yield Metric("performance", subject, "labelled_count", window.labelled_count)
    if target.classes:
        yield from _measure_classes(reference, window.cells, limit, confidence)
        return
    sums, scale = window.errors, reference.target_scale
    for name, power, total, squares in (
        ("rmse", 2, sums.square, sums.fourth),
        ("mae", 1, sums.absolute, sums.square),
    ):
        most = limit if name == metric else None
        scaled = total * scale**power, squares * scale ** (2 * power)
        found = mean_error(sums.count, *scaled, power, confidence, most)
        yield _limited("performance", subject, name, found, most, sums.count)
    variation = sums.target_square - sums.target**2 / sums.count
    explained = 1 - sums.square / variation if variation > 0 else None
    yield Metric("performance", subject, "r2", explained)


def check_estimate(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> Iterator[Metric]:
    """Judge how good the answers are expected to be, and by the labels whether that holds."""
    learned, expected, rows = reference.expectation, window.expected, window.row_count
    if learned is None or expected is None or rows < monitoring.window.minimum_rows:
        return
    metric = performance_metric(reference.contract, monitoring)
    limit = performance_limit(metric, reference.manifest.metrics, monitoring.performance)
    # Validation rows are a sample, too, so an estimate is as sure as so many labels would be.
    labels = 1 / (1 / rows + 1 / learned.row_count)
    if metric == "accuracy":
        expected = min(1.0, max(0.0, expected))
        given = round(expected * labels), round(labels), monitoring.confidence, limit
        found = proportion(*given)._replace(value=expected)
    else:
        sums = labels * expected, labels * expected**2 * (1 + learned.variation**2)
        power = 2 if metric == "rmse" else 1
        found = mean_error(labels, *sums, power, monitoring.confidence, limit)
    subject = reference.subject(PREDICTION)
    yield _limited("estimate", subject, f"estimated_{metric}", found, limit, rows)
    count, most = window.labelled_count, monitoring.performance.maximum_estimate_error
    if metric == "accuracy" and count >= monitoring.window.minimum_labelled:
        right = sum(one.right for one in window.cells) / count
        expected = min(1.0, max(0.0, sum(one.expected for one in window.cells) / count))
        labels = 1 / (1 / count + 1 / learned.row_count)
        yield Metric(
            *("estimate", subject, "estimate_error", right - expected),
            threshold=most,
            p_value=same_share(right, expected, labels),
            severity="warning" if most is not None and abs(right - expected) > most else "none",
            message=f"the estimate does not hold: of {count} labelled predictions, {expected:.4g} "
            f"should be right and {right:.4g} are",
        )


def check_segments(
    reference: Reference, window: Window, monitoring: MonitoringOptions
) -> tuple[Metric, ...]:
    """Judge each part of the segments as the whole is judged; none is more than a warning.

    Their tests are corrected among themselves, so that the whole is judged as without them.
    """
    found: list[Metric] = []
    for name, part in reference.parts.items():
        seen = window.parts[name]
        measured = [
            Metric("data_quality", reference.subject("rows"), "row_count", seen.row_count),
            *check_performance(part, seen, monitoring),
            *check_estimate(part, seen, monitoring),
            *check_drift(part, seen, monitoring),
        ]
        found += [replace(one, segment=name) for one in measured]
    judged = confirm(found, monitoring.significance)
    return tuple(replace(one, severity="warning" if one.is_alarm else "none") for one in judged)


def worst_segment(parts: Iterable[Metric], metric: str) -> list[str]:
    """A sentence on it: by labels where there are enough, else as estimated, else by its drift."""
    for name in (metric, f"estimated_{metric}", "population_stability_index"):
        found = [one for one in parts if one.metric == name and one.value is not None]
        if not found:
            continue
        sign = -1 if name.endswith("accuracy") else 1
        worst = max(found, key=lambda one: sign * (one.value or 0.0))
        told = worst.message
        if name == "population_stability_index":
            told = f"stability index {worst.value:.2f} of {worst.subject}"
        return [f"The worst segment is {worst.segment}: {told}."]
    return []


def performance_limit(
    metric: str, validation: dict[str, float], options: PerformanceOptions
) -> float | None:
    """The stricter of the fixed limit and what validation allows; None without either."""
    limits = [] if options.limit is None else [options.limit]
    validated = validation.get(f"validation_{metric}")
    is_accuracy = metric == "accuracy"
    if validated is not None and options.tolerance is not None:
        worse = validated - options.tolerance, validated * (1 + options.tolerance)
        limits.append(worse[0] if is_accuracy else worse[1])
    if not limits:
        return None
    return min(1.0, max(0.0, *limits)) if is_accuracy else min(limits)


def confusion_matrix(cells: Iterable[Cell], classes: int) -> npt.NDArray[np.int64]:
    """Counts by true class (rows) and predicted class; the last of each are classes unknown."""
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for cell in cells:
        row = classes if cell.actual is None else cell.actual
        matrix[row, classes if cell.predicted is None else cell.predicted] += cell.count
    return matrix


def quantity(metric: str, value: float | None) -> str:
    """A value of a metric for people, such as ``4.2 %``."""
    if value is None:
        return "-"
    if metric.endswith("_fraction"):
        return f"{100 * value:.3g} %"
    return str(timedelta(0, round(value))) if metric.endswith("_seconds") else f"{value:.4g}"


def _tested(metric: Metric, p_value: float, significance: float) -> Metric:
    severity = metric.severity
    if p_value >= significance:
        is_loss = metric.is_alarm and metric.area in ("performance", "estimate")
        severity = "warning" if is_loss else "none"
    return replace(metric, p_value=p_value, severity=severity)


def _sentence(metric: Metric, significance: float) -> str:
    message = metric.message[0].upper() + metric.message[1:]
    if metric.p_value is None:
        return f"{message}."
    shown = f"p {metric.p_value:.2g}" if metric.p_value >= 0.001 else "p below 0.001"
    doubt = ", which may be chance" if metric.p_value >= significance else ""
    return f"{message}; {shown}{doubt}."


def _change(column: Column, counts: ColumnCounts, shift: float | None) -> str:
    """How a column has changed most, in words."""
    if shift is not None:
        where = "above" if shift > 0 else "below"
        return f"its mean is {abs(shift):.2f} standard deviations {where} the training data's"
    if column.is_number:
        return "it has no values"
    before = np.array(column.counts) / max(1, sum(column.counts))
    now = np.array(counts.bins) / max(1, sum(counts.bins))
    most = int(np.argmax(np.abs(now - before)))
    name = ("what training has not seen", *column.categories)[most]
    return f"{name} makes up {100 * now[most]:.3g} % instead of {100 * before[most]:.3g} %"


def _measure_classes(
    reference: Reference, cells: Iterable[Cell], limit: float | None, confidence: float
) -> Iterator[Metric]:
    classes, subject = reference.contract.target.classes, reference.subject(PREDICTION)
    matrix = confusion_matrix(cells, len(classes))
    total, right = int(matrix.sum()), int(np.trace(matrix[:-1, :-1]))
    found = proportion(right, total, confidence, limit)
    yield _limited("performance", subject, "accuracy", found, limit, total)
    actual, predicted = matrix.sum(axis=1)[:-1], matrix.sum(axis=0)[:-1]
    hits = np.diag(matrix)[:-1]
    present, known = actual > 0, (actual + predicted) > 0
    recalls, scores = hits[present] / actual[present], 2 * hits[known] / (actual + predicted)[known]
    for metric, values in (("balanced_accuracy", recalls), ("macro_f1", scores)):
        yield Metric("performance", subject, metric, float(values.mean()) if len(values) else None)
    for one, hit, count in zip(classes, hits.tolist(), actual.tolist(), strict=True):
        recall = proportion(hit, count, confidence)[:3] if count else (None, None, None)
        yield Metric("performance", one.label, "recall", *recall)


def _limited(
    area: Area, subject: str, metric: str, found: Estimate, limit: float | None, count: int
) -> Metric:
    """A measure of performance that must not be worse than its limit, if it has one."""
    is_accuracy = metric.endswith("accuracy")
    is_worse = limit is not None and (found.value < limit if is_accuracy else found.value > limit)
    what, of = f"live {metric}", "labelled predictions"
    if area == "estimate":
        what, of = metric.replace("_", " "), "predictions"
    message = (
        f"{what} is {found.value:.4g} ({found.lower:.4g} to {found.upper:.4g}) on {count} {of}"
    )
    if is_worse:
        message += f", {'below' if is_accuracy else 'above'} {limit:.4g}"
    return Metric(
        *(area, subject, metric, found.value, found.lower, found.upper, limit),
        p_value=found.p_value,
        severity="alarm" if is_worse else "none",
        message=message,
    )


def _at_most(
    severity: Severity,
    subject: str,
    metric: str,
    value: float | None,
    limit: float | None,
    said: str,
) -> Metric:
    is_over = value is not None and limit is not None and value > limit
    return Metric(
        *("data_quality", subject, metric, value),
        threshold=limit,
        severity=severity if is_over else "none",
        message=f"{quantity(metric, value)} {said} (at most {quantity(metric, limit)})",
    )
