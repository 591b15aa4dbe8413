"""What the values of a text column look like: numbers, booleans, or dates in which format."""

import re
from typing import Any

import numpy as np
import pandas as pd

_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?(?:Z|[+-]\d{2}:?\d{2}))?)?"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"

_DATE_PATTERNS = {
    "YYYY-MM-DD": r"[12]\d{3}-\d{1,2}-\d{1,2}",
    "YYYY/MM/DD": r"[12]\d{3}/\d{1,2}/\d{1,2}",
    "YYYY.MM.DD": r"[12]\d{3}\.\d{1,2}\.\d{1,2}",
    "YYYY. M. D.": r"[12]\d{3}\. ?\d{1,2}\. ?\d{1,2}\.",
    "YYYYMMDD": r"[12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
    "DD/MM/YYYY or MM/DD/YYYY": r"\d{1,2}/\d{1,2}/[12]\d{3}",
    "DD-MM-YYYY or MM-DD-YYYY": r"\d{1,2}-\d{1,2}-[12]\d{3}",
    "DD.MM.YYYY": r"\d{1,2}\.\d{1,2}\.[12]\d{3}",
    "YYYY년 M월 D일": r"[12]\d{3}년 ?\d{1,2}월 ?\d{1,2}일",
    "D Month YYYY": rf"\d{{1,2}}[ -]{_MONTH}[ -][12]\d{{3}}",
    "Month D, YYYY": rf"{_MONTH} \d{{1,2}},? [12]\d{{3}}",
}
_DATE_FORMATS = tuple(_DATE_PATTERNS)
_DATE = re.compile(
    "(?:" + "|".join(f"({pattern})" for pattern in _DATE_PATTERNS.values()) + f"){_TIME}",
    re.IGNORECASE,
)
READABLE_DATE_FORMATS = frozenset({"YYYY-MM-DD", "YYYY/MM/DD", "YYYY.MM.DD", "YYYYMMDD"})
"""The formats that ingestion reads; in the others the month may be taken for the day."""

_GROUPED_NUMBER = r"[-+]?[₩$€£¥]? ?\d{1,3}(,\d{3})+(\.\d+)?(%|원)?"
_UNIT_NUMBER = r"[-+]?[₩$€£¥] ?\d+(\.\d+)?|[-+]?\d+(\.\d+)?( ?%|원)"
_DECORATED_NUMBER = re.compile(rf"{_GROUPED_NUMBER}|{_UNIT_NUMBER}")
_WHOLE_NUMBER = r"[+-]?\d+"
_PADDED_CODE = r"0\d+"
_BOOLEANS = {"true": True, "false": False}
_EXACT_BELOW = 2.0**53


def read_numbers(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """The finite number that each text is; missing where it is none."""
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return numbers.where(np.isfinite(numbers))


def read_booleans(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """True and false by their English words in any case; missing where it is neither."""
    return text.str.lower().map(_BOOLEANS).astype("boolean")


def read_times(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """Times in a readable format, in UTC without a zone; missing where there is none."""
    times = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)
    return times.dt.tz_localize(None)


def date_format(text: str) -> str | None:
    """The name of the format of a date or time; None where it is none."""
    found = _DATE.fullmatch(text)
    return None if found is None else _DATE_FORMATS[(found.lastindex or 1) - 1]


def has_time(text: "pd.Series[Any]") -> bool:
    """Whether any of the dates has a time of day."""
    return bool(text.str.contains(":", regex=False).any())


def is_decorated_number(text: str) -> bool:
    """Whether it is a number with separators of thousands, a currency or a percent sign."""
    return _DECORATED_NUMBER.fullmatch(text) is not None


def are_whole_numbers(text: "pd.Series[Any]") -> bool:
    """Whether each text is a whole number that a float64 keeps exactly."""
    return bool(
        text.str.fullmatch(_WHOLE_NUMBER).all()
        and (pd.to_numeric(text).abs().astype(np.float64) < _EXACT_BELOW).all()
    )


def are_codes(text: "pd.Series[Any]") -> bool:
    """Whether all texts are digits that are codes rather than numbers, such as 00123."""
    is_digits = text.str.fullmatch(r"\d+")
    if not is_digits.all():
        return False
    is_padded = bool(text.str.fullmatch(_PADDED_CODE).any())
    return is_padded or bool((text.str.len() > 15).any())
