"""SQL that counts predictions; no statement gives more than a few rows back.

Names of features are data here: the log keeps features by name in JSON, and every name is a bound
parameter. What does not fit its column is counted, never an error.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Double,
    Executable,
    Integer,
    Numeric,
    Subquery,
    Text,
    Values,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    values,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from mlops_for_mle.database.tables import predictions
from mlops_for_mle.datasets.monitoring_times import read_times
from mlops_for_mle.records_monitoring import CategoryColumn, NumericColumn

# Buckets of what is in no bin. Categories are counted from 1, bins from 0.
MISSING, WRONG_TYPE, UNKNOWN = -1, -2, 0

# Larger numbers are no measurements, and their squares could not be summed up.
_LARGEST = 1e100

_P = predictions.c


class Position(NamedTuple):
    """Where a window begins: the time and id of its first prediction."""

    created_at: datetime
    prediction_id: str


class Span(NamedTuple):
    """The predictions of one release between two moments.

    Attributes:
        contract: The contract's name.
        release: The release that answered.
        since: Only later ones; None has no limit.
        until: None later than this; None has no limit.
        first: Only from this one on; None has no limit.
    """

    contract: str
    release: str
    since: datetime | None = None
    until: datetime | None = None
    first: Position | None = None

    def condition(self) -> ColumnElement[bool]:
        """Which rows of ``predictions`` they are."""
        conditions = [_P.contract == self.contract, _P.release == self.release]
        if self.since is not None:
            conditions.append(_P.created_at > self.since)
        if self.until is not None:
            conditions.append(_P.created_at <= self.until)
        if self.first is not None:
            begin = tuple_(
                literal(self.first.created_at, DateTime(timezone=True)),
                literal(self.first.prediction_id, Text),
            )
            conditions.append(tuple_(_P.created_at, _P.prediction_id) >= begin)
        return and_(*conditions)


def nth_newest(span: Span, number: int) -> Executable:
    """Time and id of the prediction that has ``number - 1`` newer ones; no row with fewer."""
    return (
        select(_P.created_at, _P.prediction_id)
        .where(span.condition())
        .order_by(_P.created_at.desc(), _P.prediction_id.desc())
        .offset(number - 1)
        .limit(1)
    )


def overview(span: Span) -> Executable:
    """How many predictions there are, and when the first and the last were answered."""
    newest = func.max(_P.created_at)
    return select(
        func.count().label("row_count"),
        func.min(_P.created_at).label("window_from"),
        newest.label("window_to"),
        func.extract("epoch", literal(span.until, DateTime(timezone=True)) - newest).label(
            "age_seconds"
        )
        if span.until is not None
        else func.extract("epoch", func.now() - newest).label("age_seconds"),
    ).where(span.condition())


def distinct_rows(span: Span) -> Executable:
    """How many different feature values there are; by hash, which Postgres keeps in bounds."""
    hashed = (
        select(func.jsonb_hash_extended(_P.features, 0).label("digest"))
        .where(span.condition())
        .group_by("digest")
        .subquery()
    )
    return select(func.count()).select_from(hashed)


def numeric_counts(span: Span, columns: Sequence[NumericColumn]) -> Executable:
    """Features of numbers: one row for each bucket of each column that has values."""
    cells = _cells(span, _described(columns))
    cell = cells.c.cell
    is_number = func.jsonb_typeof(cell) == "number"
    is_usual = func.abs(cast(cell, Numeric)) < _LARGEST
    numbers = (
        select(
            *(one for one in cells.c if one is not cell),
            or_(cell.is_(null()), func.jsonb_typeof(cell) == "null").label("is_missing"),
            case((is_number, case((is_usual, cast(cell, Double))))).label("number"),
        )
        # Keeps Postgres from repeating the conversion wherever the number is used.
        .offset(0)
        .subquery("numbers")
    )
    return _bucketed(numbers)


def time_counts(span: Span, columns: Sequence[NumericColumn]) -> Executable:
    """Features of dates and times: as ``numeric_counts``, in seconds since 1970."""
    return _bucketed(read_times(_cells(span, _described(columns))))


def category_counts(span: Span, columns: Sequence[CategoryColumn]) -> Executable:
    """Features of categories: one row for each bucket of each column that has values."""
    described = values(
        column("position", Integer),
        column("name", Text),
        column("categories", ARRAY(Text)),
        name="described",
    ).data(
        [
            (position, one.name, cast(list(one.categories), ARRAY(Text)))
            for position, one in enumerate(columns)
        ]
    )
    cells = _cells(span, described)
    cell = cells.c.cell
    kind = func.jsonb_typeof(cell)
    # 3 and 3.0 are one category.
    words = case(
        (kind == "number", cast(func.trim_scale(cast(cell, Numeric)), Text)),
        else_=cell.op("#>>", return_type=Text())(cast([], ARRAY(Text))),
    )
    bucket = case(
        (or_(cell.is_(null()), kind == "null"), MISSING),
        (kind.in_(["object", "array"]), WRONG_TYPE),
        else_=func.coalesce(func.array_position(cells.c.categories, words), UNKNOWN),
    ).label("bucket")
    return select(cells.c.position, bucket, func.count().label("count")).group_by(
        cells.c.position, bucket
    )


def class_counts(span: Span, codes: Sequence[float]) -> Executable:
    """Predicted classes: one row for each."""
    found = func.array_position(doubles(codes), _P.prediction)
    bucket = func.coalesce(found, UNKNOWN).label("bucket")
    return select(bucket, func.count().label("count")).where(span.condition()).group_by(bucket)


def answer_counts(span: Span, answers: NumericColumn) -> Executable:
    """A regression's answers: one row for each bucket that has any."""
    number = case((func.abs(_P.prediction) < _LARGEST, _P.prediction))
    bucket = case(
        (number.is_(None), WRONG_TYPE),
        else_=func.width_bucket(number, doubles(answers.edges)),
    ).label("bucket")
    sums = _sums(number, cast(answers.centre, Double), cast(answers.scale, Double))
    return select(bucket, *sums).where(span.condition()).group_by(bucket)


def _described(columns: Sequence[NumericColumn]) -> Values:
    return values(
        column("position", Integer),
        column("name", Text),
        column("edges", ARRAY(Double)),
        column("minimum", Double),
        column("maximum", Double),
        column("is_whole", Boolean),
        column("centre", Double),
        column("scale", Double),
        name="described",
    ).data(
        [
            (
                position,
                one.name,
                doubles(one.edges),
                cast(one.minimum, Double),
                cast(one.maximum, Double),
                one.is_whole,
                cast(one.centre, Double),
                cast(one.scale, Double),
            )
            for position, one in enumerate(columns)
        ]
    )


def _bucketed(numbers: Subquery) -> Executable:
    """Count numbers that were read, by position and bin."""
    number = numbers.c.number
    bucket = case(
        (numbers.c.is_missing, MISSING),
        (number.is_(None), WRONG_TYPE),
        (and_(numbers.c.is_whole, number != func.trunc(number)), WRONG_TYPE),
        else_=func.width_bucket(number, numbers.c.edges),
    ).label("bucket")
    is_outside = or_(number < numbers.c.minimum, number > numbers.c.maximum)
    return select(
        numbers.c.position,
        bucket,
        *_sums(number, numbers.c.centre, numbers.c.scale),
        func.count().filter(is_outside).label("out_of_range"),
    ).group_by(numbers.c.position, bucket)


def _cells(span: Span, described: Values) -> Subquery:
    """The value of each described column in each row, as ``cell``, beside the description."""
    cell = _P.features.op("->", return_type=JSONB())(described.c.name).label("cell")
    return (
        select(*described.c, cell)
        .select_from(predictions.join(described, true()))
        .where(span.condition())
        # Keeps Postgres from looking a value up wherever it is used.
        .offset(0)
        .subquery("cells")
    )


def _sums(number: Any, centre: Any, scale: Any) -> list[ColumnElement[Any]]:
    relative = (number - centre) / scale
    return [
        func.count().label("count"),
        func.sum(relative).label("sum"),
        func.sum(relative * relative).label("square_sum"),
        func.min(number).label("least"),
        func.max(number).label("largest"),
    ]


def doubles(numbers: Sequence[float]) -> ColumnElement[Any]:
    """Numbers as an array of double precision."""
    return cast(list(numbers), ARRAY(Double))
