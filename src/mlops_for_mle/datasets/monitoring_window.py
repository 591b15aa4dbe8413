"""The window of predictions as a catalog entry: a plan goes in, counts come out."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from kedro.io import AbstractDataset
from sqlalchemy import Connection, func, select

from mlops_for_mle.database import reachable
from mlops_for_mle.datasets import monitoring_labels as labels
from mlops_for_mle.datasets import monitoring_statements as statements
from mlops_for_mle.datasets.monitoring_statements import MISSING, UNKNOWN, WRONG_TYPE, Span
from mlops_for_mle.datasets.monitoring_table import count_table
from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.records_monitoring import (
    CategoryColumn,
    ClassifiedCell,
    ColumnCounts,
    NumericColumn,
    RegressionSums,
    WindowCounts,
    WindowPlan,
)


class PredictionWindowDataset(AbstractDataset[WindowPlan, WindowCounts]):
    """Counts the predictions of a window, their labels and the contract's newest rows, in SQL."""

    # It remembers the plan.
    _SINGLE_PROCESS = True

    def __init__(self, credentials: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Take credentials with the key ``con``, a URL."""
        self._url: str = credentials["con"]
        self._plan: WindowPlan | None = None
        self.metadata = metadata

    def save(self, data: WindowPlan) -> None:
        """Say what is to be counted."""
        self._plan = data

    def load(self) -> WindowCounts:
        """Count.

        Raises:
            PrerequisiteError: Nobody has said what.
        """
        if self._plan is None:
            raise PrerequisiteError(
                "No window was planned: run `kedro run --pipeline monitoring` as a whole."
            )
        # All statements see the same rows, whatever is written meanwhile.
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with reachable(self._url) as engine, engine.connect() as connection:
            return count_window(connection.execution_options(**options), self._plan)

    def _describe(self) -> dict[str, Any]:
        return {"table": "predictions"}


def count_window(connection: Connection, plan: WindowPlan) -> WindowCounts:
    """Count a window on an open connection."""
    everything = _span(connection, plan)
    span = _newest(connection, everything, plan.row_limit)
    facts = connection.execute(statements.overview(span)).one()
    distinct = connection.scalar(statements.distinct_rows(span)) or 0
    reference = plan.reference
    is_classifier = bool(reference.class_codes)
    return WindowCounts(
        row_count=facts.row_count,
        window_from=facts.window_from,
        window_to=facts.window_to,
        age_seconds=None if facts.age_seconds is None else max(0.0, float(facts.age_seconds)),
        duplicates=facts.row_count - distinct,
        features=_count_features(connection, span, plan),
        prediction=_count_answers(connection, span, plan),
        classified=_count_classes(connection, everything, plan) if is_classifier else (),
        regression=RegressionSums() if is_classifier else _sum_errors(connection, everything, plan),
        table=count_table(connection, plan),
        **connection.execute(labels.labelled_between(everything, plan.row_limit)).one()._mapping,
    )


def _span(connection: Connection, plan: WindowPlan) -> Span:
    since = None
    if plan.hours is not None:
        end = plan.until or connection.execute(select(func.now())).scalar_one()
        since = end - timedelta(hours=plan.hours)
    reference = plan.reference
    return Span(reference.contract.name, reference.release, since, plan.until)


def _newest(connection: Connection, span: Span, limit: int | None) -> Span:
    if limit is None:
        return span
    row = connection.execute(statements.nth_newest(span, limit)).one_or_none()
    return span if row is None else span._replace(first=statements.Position(*row))


def _count_features(
    connection: Connection, span: Span, plan: WindowPlan
) -> dict[str, ColumnCounts]:
    columns = [one.column for one in plan.reference.features]
    numeric = [one for one in columns if isinstance(one, NumericColumn)]
    categorical = [one for one in columns if isinstance(one, CategoryColumn)]
    found: dict[str, ColumnCounts] = {}
    for read, numbers in (
        (statements.numeric_counts, [one for one in numeric if not one.is_time]),
        (statements.time_counts, [one for one in numeric if one.is_time]),
    ):
        rows = connection.execute(read(span, numbers)).all() if numbers else []
        for position, number in enumerate(numbers):
            buckets = [row for row in rows if row.position == position]
            found[number.name] = _numbers(number, buckets)
    if categorical:
        rows = connection.execute(statements.category_counts(span, categorical)).all()
        for position, category in enumerate(categorical):
            buckets = [row for row in rows if row.position == position]
            found[category.name] = _categories(category, buckets)
    return found


def _count_answers(connection: Connection, span: Span, plan: WindowPlan) -> ColumnCounts:
    reference = plan.reference
    answers = reference.prediction.column
    if isinstance(answers, CategoryColumn):
        rows = connection.execute(statements.class_counts(span, reference.class_codes)).all()
        return _categories(answers, rows)
    return _numbers(answers, connection.execute(statements.answer_counts(span, answers)).all())


def _count_classes(
    connection: Connection, span: Span, plan: WindowPlan
) -> tuple[ClassifiedCell, ...]:
    rows = connection.execute(
        labels.classified_counts(
            span, plan.row_limit, plan.reference.class_codes, plan.confidence_bins
        )
    )
    # Postgres counts from 1.
    return tuple(
        ClassifiedCell(
            **{
                **row._mapping,
                "predicted": None if row.predicted is None else row.predicted - 1,
                "actual": None if row.actual is None else row.actual - 1,
            }
        )
        for row in rows
    )


def _sum_errors(connection: Connection, span: Span, plan: WindowPlan) -> RegressionSums:
    reference = plan.reference
    answers = reference.prediction.column
    centre = answers.centre if isinstance(answers, NumericColumn) else 0.0
    row = connection.execute(
        labels.regression_sums(span, plan.row_limit, centre, reference.target_scale)
    ).one()
    return RegressionSums(**row._mapping)


def _numbers(column: NumericColumn, rows: Sequence[Any]) -> ColumnCounts:
    counts = _by_bucket(rows)
    good = [row for row in rows if row.bucket >= 0]
    total = sum(row.count for row in good)
    mean = deviation = None
    if total:
        first = sum(row.sum for row in good) / total
        second = sum(row.square_sum for row in good) / total
        mean = column.centre + column.scale * first
        deviation = column.scale * math.sqrt(max(0.0, second - first * first))
    return ColumnCounts(
        counts=tuple(counts.get(number, 0) for number in range(len(column.edges) + 1)),
        missing=counts.get(MISSING, 0),
        wrong_type=counts.get(WRONG_TYPE, 0),
        out_of_range=sum(getattr(row, "out_of_range", 0) for row in good),
        mean=mean,
        deviation=deviation,
        least=min((row.least for row in good), default=None),
        largest=max((row.largest for row in good), default=None),
    )


def _categories(column: CategoryColumn, rows: Sequence[Any]) -> ColumnCounts:
    counts = _by_bucket(rows)
    return ColumnCounts(
        counts=tuple(counts.get(number + 1, 0) for number in range(len(column.categories))),
        missing=counts.get(MISSING, 0),
        wrong_type=counts.get(WRONG_TYPE, 0),
        unknown=counts.get(UNKNOWN, 0),
    )


def _by_bucket(rows: Sequence[Any]) -> dict[int, int]:
    return {row.bucket: row.count for row in rows}
