"""What is wrong with one value of a feature that is more than a number; None where nothing is."""

from datetime import time as time_of_day
from typing import Any

from mlops_for_mle.contract import Feature
from mlops_for_mle.encoding import read_time

_LONGEST_TEXT = 1000
_LONGEST_TIME = 64
_EXACT_BELOW = 2**53
_MIDNIGHT = time_of_day()


def fault_of(value: Any, feature: Feature) -> str | None:
    """What is wrong with a boolean, a category, a date or a time."""
    if feature.type == "boolean":
        return None if isinstance(value, bool) else "is neither true nor false"
    if feature.is_time:
        return _time_fault(value, feature)
    reason = _code_fault(value) if feature.has_integer_categories else _text_fault(value)
    if reason is None and feature.unknown == "reject" and value not in feature.category_codes:
        return "is no known category"
    return reason


def _code_fault(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        return "is no whole number"
    return "is too large" if abs(value) >= _EXACT_BELOW else None


def _text_fault(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is no text"
    if not value.strip():
        return "is blank; a missing value is null"
    if len(value) > _LONGEST_TEXT:
        return "is too long"
    # Postgres holds neither NUL nor half of a surrogate pair.
    return "is no text that can be kept" if "\x00" in value or _has_surrogate(value) else None


def _time_fault(value: Any, feature: Feature) -> str | None:
    try:
        if not isinstance(value, str) or len(value) > _LONGEST_TIME:
            raise ValueError
        time = read_time(value)
    except ValueError:
        return "is no date" if feature.type == "date" else "is no time"
    if feature.type == "date" and time.time() != _MIDNIGHT:
        return "has a time of day"
    if feature.earliest is not None and time < feature.earliest:
        return "is too early"
    return "is too late" if feature.latest is not None and time > feature.latest else None


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
