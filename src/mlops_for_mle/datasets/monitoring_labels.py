"""SQL that compares predictions with the true labels that have arrived."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Integer,
    Subquery,
    and_,
    case,
    cast,
    func,
    select,
)

from mlops_for_mle.database.tables import feedback, predictions
from mlops_for_mle.datasets.monitoring_statements import Span, doubles

_P = predictions.c


def classified_counts(
    span: Span, limit: int | None, codes: Sequence[float], bins: int
) -> Executable:
    """Labelled predictions of a classification, by predicted and true class and confidence."""
    known = doubles(codes)
    rows = _labelled(
        span,
        limit,
        func.array_position(known, _P.prediction).label("predicted"),
        func.array_position(known, feedback.c.target).label("actual"),
        _P.probabilities,
    )
    probability = rows.c.probabilities[rows.c.predicted]
    # LEAST and GREATEST pass over nulls, so that a missing probability would become 0.
    bounded = case((probability.is_not(None), func.least(func.greatest(probability, 0.0), 1.0)))
    element: Any = func.unnest(rows.c.probabilities).column_valued("element")
    squares = select(func.sum(element * element)).correlate(rows).scalar_subquery()
    rated = select(
        rows.c.predicted,
        rows.c.actual,
        bounded.label("p"),
        case((rows.c.predicted == rows.c.actual, 1.0), else_=0.0).label("hit"),
        (squares - 2 * func.coalesce(rows.c.probabilities[rows.c.actual], 0.0) + 1).label("brier"),
    ).subquery("rated")
    p = rated.c.p
    spread = 1 - 2 * p
    return select(
        rated.c.predicted,
        rated.c.actual,
        case((p < 1, cast(func.floor(p * bins), Integer)), (p == 1, bins - 1)).label(
            "confidence_bin"
        ),
        func.count().label("count"),
        func.coalesce(func.sum(p), 0.0).label("confidence"),
        func.coalesce(func.sum(rated.c.brier), 0.0).label("brier"),
        func.coalesce(func.sum((rated.c.hit - p) * spread), 0.0).label("calibration_sum"),
        func.coalesce(func.sum(spread * spread * p * (1 - p)), 0.0).label("calibration_variance"),
    ).group_by(rated.c.predicted, rated.c.actual, "confidence_bin")


def regression_sums(span: Span, limit: int | None, centre: float, scale: float) -> Executable:
    """Labelled predictions of a regression, summed up; errors relative to ``scale``."""
    rows = _labelled(
        span,
        limit,
        _bounded((_P.prediction - feedback.c.target) / scale).label("error"),
        _bounded((feedback.c.target - centre) / scale).label("target"),
    )
    square = rows.c.error * rows.c.error
    return select(
        func.count().label("count"),
        func.coalesce(func.sum(func.abs(rows.c.error)), 0.0).label("absolute"),
        func.coalesce(func.sum(square), 0.0).label("square"),
        func.coalesce(func.sum(square * square), 0.0).label("fourth"),
        func.coalesce(func.sum(rows.c.target), 0.0).label("target"),
        func.coalesce(func.sum(rows.c.target * rows.c.target), 0.0).label("target_square"),
    )


def labelled_between(span: Span, limit: int | None) -> Executable:
    """When the first and the last of the labelled predictions were answered."""
    rows = _labelled(span, limit, _P.created_at)
    answered_at = rows.c.created_at
    return select(
        func.min(answered_at).label("labelled_from"), func.max(answered_at).label("labelled_to")
    )


def _labelled(span: Span, limit: int | None, *columns: Any) -> Subquery:
    """The newest predictions whose true label has arrived."""
    return (
        select(*columns)
        .select_from(
            predictions.join(
                feedback,
                and_(
                    feedback.c.prediction_id == _P.prediction_id,
                    feedback.c.superseded_at.is_(None),
                ),
            )
        )
        .where(span.condition())
        .order_by(*([_P.created_at.desc(), _P.prediction_id.desc()] if limit is not None else []))
        .limit(limit)
        .subquery("labelled")
    )


def _bounded(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Keeps fourth powers within a double's range."""
    return func.least(func.greatest(value, -1e50), 1e50)
