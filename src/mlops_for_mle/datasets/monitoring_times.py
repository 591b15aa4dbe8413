"""SQL that reads the dates and times of the prediction log, which are text as clients gave it."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Interval,
    Subquery,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

# The calendar dates and times of ISO 8601 that the API takes; without an offset they are UTC.
# Groups: year, month, day, hour, minute, second, fraction; sign, hours, minutes of the offset.
_ISO = (
    "^([0-9]{4})-?([0-9]{2})-?([0-9]{2})"
    "(?:.([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?)?)?"
    "(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?$"
)

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def read_times(cells: Subquery) -> Subquery:
    """Seconds since 1970, UTC, as ``number``; null for what is no date or time.

    Postgres' own conversion fails on the first text that it cannot read, takes the session's zone
    where none is given, and has no form before version 16 that does not.
    """
    cell = cells.c.cell
    words = cell.op("#>>", return_type=Text())(cast([], ARRAY(Text)))
    parts = (
        select(
            *cells.c,
            or_(cell.is_(null()), func.jsonb_typeof(cell) == "null").label("is_missing"),
            func.regexp_match(words, _ISO, type_=ARRAY(Text)).label("parts"),
        )
        # Keeps Postgres from reading a text once for each of its parts.
        .offset(0)
        .subquery("parts")
    )
    return (
        select(
            *(one for one in parts.c if one.name not in {"cell", "parts"}),
            case((_has_parts(parts), case((_is_day(parts), _seconds(parts))))).label("number"),
        )
        .offset(0)
        .subquery("numbers")
    )


def _has_parts(parts: Subquery) -> ColumnElement[bool]:
    return and_(
        parts.c.parts.is_not(None),
        _part(parts, 1) >= 1,
        _part(parts, 2).between(1, 12),
        _part(parts, 4) < 24,
        _part(parts, 5) < 60,
        _part(parts, 6) < 60,
        _part(parts, 9) < 24,
        _part(parts, 10) < 60,
    )


def _is_day(parts: Subquery) -> Any:
    last = _first_of_month(parts) + literal("1 month -1 day").cast(Interval)
    return _part(parts, 3).between(1, func.extract("day", last))


def _seconds(parts: Subquery) -> Any:
    sign = case((parts.c.parts[8] == "-", -1), else_=1)
    offset = sign * (_part(parts, 9) * _HOUR + _part(parts, 10) * _MINUTE)
    fraction = cast(literal("0.") + func.coalesce(parts.c.parts[7], "0"), Double)
    clock = _part(parts, 4) * _HOUR + _part(parts, 5) * _MINUTE + _part(parts, 6)
    month = cast(func.extract("epoch", _first_of_month(parts)), Double)
    return month + (_part(parts, 3) - 1) * _DAY + clock + fraction - offset


def _first_of_month(parts: Subquery) -> Any:
    return func.make_date(_part(parts, 1), _part(parts, 2), 1)


def _part(parts: Subquery, number: int) -> Any:
    return func.coalesce(cast(parts.c.parts[number], Integer), 0)
