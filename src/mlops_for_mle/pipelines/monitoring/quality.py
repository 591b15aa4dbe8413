"""Whether the values of the window and of the contract's table are as they should be."""

from mlops_for_mle.pipelines.monitoring.checks import Check, Findings, Severity, fraction, share
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, QualityOptions
from mlops_for_mle.pipelines.monitoring.profile import free_subject
from mlops_for_mle.records_monitoring import (
    CategoryColumn,
    MonitoredColumn,
    NumericColumn,
    ReferenceColumn,
    ReferenceProfile,
    TableCounts,
    WindowCounts,
)

ROWS = "rows"
TABLE = "table"

_HOUR = 3600.0


def check_quality(
    reference: ReferenceProfile, window: WindowCounts, options: MonitoringOptions
) -> Findings:
    """Look at the values of each feature, at the window as a whole and at the table."""
    limits = options.quality
    is_judged = window.row_count >= options.window.minimum_rows
    checks = _check_rows(reference, window, options)
    for one in reference.features:
        checks += _check_feature(one.column, window, limits, _gaps(one, reference), is_judged)
    if window.table is not None:
        checks += _check_table(reference, window.table, limits, options.window.minimum_rows)
    gap = "" if is_judged else f"{window.row_count} of {options.window.minimum_rows} predictions"
    return Findings(tuple(checks), gap)


def _gaps(column: ReferenceColumn, reference: ReferenceProfile) -> float:
    """The fraction of values that a column lacks in the reference."""
    return fraction(reference.row_count - sum(column.counts), reference.row_count) or 0.0


def _check_feature(
    column: MonitoredColumn,
    window: WindowCounts,
    limits: QualityOptions,
    gaps: float,
    is_judged: bool,
) -> list[Check]:
    """Look at one feature; ``gaps`` is the fraction of values that the reference lacks."""
    counts, rows, name = window.features[column.name], window.row_count, column.name
    allowed = limits.maximum_missing
    measured = [
        (
            "missing_fraction",
            counts.missing,
            None if allowed is None else min(1.0, allowed + gaps),
            "are missing",
        ),
        (
            "wrong_type_fraction",
            counts.wrong_type,
            limits.maximum_wrong_type,
            "have the wrong type",
        ),
    ]
    if isinstance(column, NumericColumn) and (column.minimum, column.maximum) != (None, None):
        limit = limits.maximum_out_of_range
        measured.append(
            ("out_of_range_fraction", counts.out_of_range, limit, "are out of the contract's range")
        )
    if isinstance(column, CategoryColumn):
        limit = limits.maximum_unknown
        measured.append(
            ("unknown_fraction", counts.unknown, limit, "are categories that training has not seen")
        )
    return [
        _at_most(
            name,
            metric,
            fraction(count, rows),
            limit if is_judged else None,
            "alarm",
            f"of the values of {name} {what}",
        )
        for metric, count, limit, what in measured
    ]


def _check_rows(
    reference: ReferenceProfile, window: WindowCounts, options: MonitoringOptions
) -> list[Check]:
    limits, subject = options.quality, free_subject(ROWS, reference.contract)
    age = window.age_seconds
    age_limit = None if limits.maximum_age_hours is None else limits.maximum_age_hours * _HOUR
    is_old = age is not None and age_limit is not None and age > age_limit
    rate = _rows_per_hour(window)
    rate_limit = limits.minimum_rows_per_hour
    is_slow = rate is not None and rate_limit is not None and rate < rate_limit
    return [
        Check("data_quality", subject, "row_count", float(window.row_count)),
        _at_most(
            subject,
            "duplicate_fraction",
            fraction(window.duplicates, window.row_count),
            limits.maximum_duplicates,
            "warning",
            "of the predictions repeat the features of another one",
        ),
        Check(
            "data_quality",
            subject,
            "age_seconds",
            age,
            threshold=age_limit,
            severity="warning" if is_old else "none",
            message=f"the newest prediction is {(age or 0) / _HOUR:.3g} hours old "
            f"(at most {limits.maximum_age_hours or 0:g})",
        ),
        Check(
            "data_quality",
            subject,
            "rows_per_hour",
            rate,
            threshold=rate_limit,
            severity="warning" if is_slow else "none",
            message=f"{rate or 0:.3g} predictions an hour (at least {rate_limit or 0:g})",
        ),
    ]


def _check_table(
    reference: ReferenceProfile, table: TableCounts, limits: QualityOptions, minimum_rows: int
) -> list[Check]:
    subject = free_subject(TABLE, reference.contract)
    is_judged = table.row_count >= minimum_rows
    new_rows = None if table.new_rows is None else float(table.new_rows)
    checks = [
        Check("data_quality", subject, "row_count", float(table.row_count)),
        Check("data_quality", subject, "rows_since_training", new_rows),
        Check("data_quality", subject, "age_seconds", table.age_seconds),
        _at_most(
            subject,
            "duplicate_fraction",
            fraction(table.duplicates, table.row_count),
            limits.maximum_duplicates if is_judged else None,
            "warning",
            f"of the newest rows of table {table.table} repeat another one",
        ),
    ]
    # Only what is missing beyond the reference's gaps counts.
    expected = {one.column.name: _gaps(one, reference) for one in reference.features}
    missing = {
        name: max(0, count - round(expected.get(name, 0.0) * table.row_count))
        for name, count in table.missing.items()
    }
    for metric, counts, limit, what in (
        ("missing_fraction", missing, limits.maximum_missing, "are missing"),
        (
            "out_of_range_fraction",
            table.out_of_range,
            limits.maximum_out_of_range,
            "do not fit the contract",
        ),
    ):
        worst = max(counts, key=lambda name: counts[name])
        checks.append(
            _at_most(
                subject,
                metric,
                fraction(counts[worst], table.row_count),
                limit if is_judged else None,
                "warning",
                f"of the newest values in column {worst} of table {table.table} {what}",
            )
        )
    return checks


def _at_most(
    subject: str,
    metric: str,
    value: float | None,
    limit: float | None,
    severity: Severity,
    what: str,
) -> Check:
    is_over = value is not None and limit is not None and value > limit
    return Check(
        "data_quality",
        subject,
        metric,
        value,
        threshold=limit,
        severity=severity if is_over else "none",
        message=f"{share(value or 0)} {what} (at most {share(limit or 0)})",
    )


def _rows_per_hour(window: WindowCounts) -> float | None:
    if window.window_from is None or window.window_to is None:
        return None
    seconds = (window.window_to - window.window_from).total_seconds()
    return (window.row_count - 1) / seconds * _HOUR if seconds > 0 else None
