"""What a value of a feature, or of the target, may be: the one place that says so.

The same rule has three forms, which property tests hold together: ``is_allowed`` for columns that
were read, ``json_type`` for msgspec, which decodes and checks JSON at the speed of its parser, and
``fault``, which says in words what is wrong with one plain value. Plain values are those of JSON:
numbers, booleans, text and None; dates and times are ISO 8601.
"""

import json
import math
from collections.abc import Callable
from datetime import date, datetime, time
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.model import EXACT_BELOW, Feature, as_utc

Precision = Literal["float32", "float64"]
"""The element type in which a model computes."""
Column = npt.NDArray[Any]

MAX_TEXT_LENGTH = 1000
# Models compute in float32, or may do so after the next training.
_MAX_NUMBER = float(np.finfo(np.float32).max)
_MAX_TIME_LENGTH = 64
# PostgreSQL holds no NUL, and blank text stands for a missing value.
_TEXT_PATTERN = r"^[^\x00]*[^\s\x00][^\x00]*$"
_SHOWN_CATEGORIES = 20
_MIDNIGHT = time()


def bounds(feature: Feature) -> tuple[float, float]:
    """The smallest and the largest number of a feature, inclusive."""
    limit = EXACT_BELOW - 1.0 if feature.type in ("integer", "category") else _MAX_NUMBER
    lower = -limit if feature.minimum is None else max(feature.minimum, -limit)
    upper = limit if feature.maximum is None else min(feature.maximum, limit)
    return lower, upper


def time_bounds(feature: Feature) -> tuple[datetime, datetime]:
    """The earliest and the latest date or time of a feature, inclusive."""
    return feature.earliest or datetime.min, feature.latest or datetime.max  # noqa: DTZ901


def is_allowed(values: Column, feature: Feature) -> Column:
    """Which values of a column that was read are allowed by a feature.

    Numbers are float64, and NaN where one is missing; times datetime64, and NaT; booleans and
    categories objects, and None.
    """
    if feature.is_number:
        lower, upper = bounds(feature)
        missing = np.isnan(values)
        fits = (values >= lower) & (values <= upper)
        if feature.type == "integer":
            fits &= np.trunc(values) == values
    elif feature.is_time:
        first, last = map(np.datetime64, time_bounds(feature))
        missing = np.isnat(values)
        fits = (values >= first) & (values <= last)
        if feature.type == "date":
            fits &= values == values.astype("datetime64[D]")
    else:
        allowed = {value: _is_known(value, feature) for value in {*values}}
        return np.fromiter(map(allowed.__getitem__, values), np.bool_, len(values))
    return fits | missing if feature.is_optional else fits & ~missing


def fault(value: Any, feature: Feature) -> str | None:
    """What is wrong with one plain value, as the end of a sentence."""
    if value is None:
        return None if feature.is_optional else "is missing"
    if feature.type == "boolean":
        return None if isinstance(value, bool) else "is neither true nor false"
    if feature.is_time:
        return _time_fault(value, feature)
    reason = _text_fault(value) if feature.is_text else _number_fault(value, feature)
    if reason is None and not feature.is_number and not _is_known(value, feature):
        reason = "is no known category"
    return reason


def text_check(feature: Feature) -> Callable[[str | None], None] | None:
    """A check that raises ValueError for what ``json_type`` lets through, where one is needed."""
    if feature.is_time:
        (first, last), is_date = time_bounds(feature), feature.type == "date"

        # Not by `fault`, which takes three times as long.
        def check_time(text: str | None) -> None:
            if text is not None:
                moment = read_time(text)
                if not first <= moment <= last or (is_date and moment.time() != _MIDNIGHT):
                    raise ValueError("out of range, or with a time of day")

        return check_time
    if feature.unknown != "other" or feature.has_integer_categories:
        return None

    def check(text: str | None) -> None:
        is_known = text in feature.category_codes
        if not is_known and (message := fault(text, feature)) is not None:
            raise ValueError(message)

    return check


def json_type(feature: Feature) -> Any:
    """The type by which msgspec decodes and checks a value of a JSON body.

    What it refuses, ``fault`` explains, or allows after all, such as an integer category written
    as 1.0. Any text passes as a time or as an unlisted category, see ``text_check``.
    """
    value: Any
    if feature.is_number:
        lower, upper = bounds(feature)
        step = 1.0 if feature.type == "integer" else None
        value = Annotated[float, msgspec.Meta(ge=lower, le=upper, multiple_of=step)]
    elif feature.is_time:
        value = Annotated[str, msgspec.Meta(max_length=_MAX_TIME_LENGTH)]
    elif feature.type == "boolean":
        value = bool
    elif feature.unknown == "reject":
        value = Literal[feature.categories]
    elif feature.has_integer_categories:
        value = Annotated[int, msgspec.Meta(gt=-EXACT_BELOW, lt=EXACT_BELOW)]
    else:
        schema = {"pattern": _TEXT_PATTERN}
        value = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH, extra_json_schema=schema)]
    return value | None if feature.is_optional else value


def describe(feature: Feature) -> str:
    """What a feature may hold, in words."""
    if feature.type == "boolean":
        described = "true or false"
    elif feature.unknown == "other":
        described = "a whole number" if feature.has_integer_categories else "text"
    elif feature.type == "category":
        first = feature.categories[:_SHOWN_CATEGORIES]
        more = len(feature.categories) - len(first)
        listed = ", ".join(json.dumps(category, ensure_ascii=False) for category in first)
        described = f"one of {listed} and {more} more" if more else f"one of {listed}"
    elif feature.is_time:
        described = "a date such as 2026-01-31"
        if feature.type == "timestamp":
            described = "a time such as 2026-01-31T12:00:00Z; without an offset it is UTC"
        for word, end in (("from", feature.earliest), ("until", feature.latest)):
            if end:
                shown = end.date() if feature.type == "date" else end
                described += f", {word} {shown.isoformat()}"
    else:
        described = "a whole number" if feature.type == "integer" else "a number"
        if feature.minimum is not None:
            described += f" from {feature.minimum:.15g}"
        if feature.maximum is not None:
            described += f" {'up ' if feature.minimum is None else ''}to {feature.maximum:.15g}"
    return f"{described}, or null" if feature.is_optional else described


# Each value is read twice, to check it and to encode it, and the same days come again.
@lru_cache(maxsize=4096)
def read_time(value: str | date) -> datetime:
    """A date or time in UTC and without an offset.

    Raises:
        ValueError: It is none of the years 1 to 9999 in ISO 8601.
    """
    if isinstance(value, str):
        if "\x00" in value:
            # Python takes any character between date and time.
            raise ValueError("holds NUL")
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        return datetime.combine(value, _MIDNIGHT)
    try:
        return as_utc(value)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _number_fault(value: Any, feature: Feature) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no whole number" if feature.type == "category" else "is no number"
    if isinstance(value, float) and not math.isfinite(value):
        return "is not finite"
    lower, upper = bounds(feature)
    if not lower <= value <= upper:
        return "is too small" if value < lower else "is too large"
    is_whole = value % 1 == 0 or feature.type in ("float", "decimal")
    return None if is_whole else "is no whole number"


def _time_fault(value: Any, feature: Feature) -> str | None:
    try:
        if not isinstance(value, str) or len(value) > _MAX_TIME_LENGTH:
            raise ValueError
        moment = read_time(value)
    except ValueError:
        return "is no date" if feature.type == "date" else "is no time"
    if feature.type == "date" and moment.time() != _MIDNIGHT:
        return "has a time of day"
    first, last = time_bounds(feature)
    if not first <= moment <= last:
        return "is too early" if moment < first else "is too late"
    return None


def _text_fault(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is no text"
    if not value.strip():
        return "is blank; a missing value is null"
    return None if _can_be_kept(value) else "is too long, or no text that can be kept"


def _is_known(value: Any, feature: Feature) -> bool:
    if value is None:
        return feature.is_optional
    if feature.unknown == "reject":
        return feature.type == "boolean" or value in feature.category_codes
    return not isinstance(value, str) or _can_be_kept(value)


def _can_be_kept(text: str) -> bool:
    """PostgreSQL can hold neither NUL nor half of a surrogate pair."""
    try:
        return len(text) <= MAX_TEXT_LENGTH and "\x00" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False
