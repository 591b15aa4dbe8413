"""What the values of a text column look like: numbers, booleans, or dates in which format."""

import re
from collections.abc import Iterator
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
_READABLE = frozenset({"YYYY-MM-DD", "YYYY/MM/DD", "YYYY.MM.DD", "YYYYMMDD"})
# What each of the other formats may be in the codes of strptime.
_CODES: dict[str, tuple[str, ...]] = {
    "YYYY. M. D.": ("%Y. %m. %d.", "%Y.%m.%d."),
    "DD/MM/YYYY or MM/DD/YYYY": ("%d/%m/%Y", "%m/%d/%Y"),
    "DD-MM-YYYY or MM-DD-YYYY": ("%d-%m-%Y", "%m-%d-%Y"),
    "DD.MM.YYYY": ("%d.%m.%Y",),
    "YYYY년 M월 D일": ("%Y년 %m월 %d일", "%Y년%m월%d일"),
    "D Month YYYY": ("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%B-%Y"),
    "Month D, YYYY": ("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"),
}
_TIME_CODES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")

_GROUPED_NUMBER = r"[-+]?[₩$€£¥]? ?\d{1,3}(,\d{3})+(\.\d+)?(%|원)?"
_UNIT_NUMBER = r"[-+]?[₩$€£¥] ?\d+(\.\d+)?|[-+]?\d+(\.\d+)? ?(%|원)"
_COMMA_NUMBER = r"[-+]?\d+,\d+|[-+]?\d{1,3}(\.\d{3})+,\d+"
_DECORATED_NUMBER = re.compile(rf"{_GROUPED_NUMBER}|{_UNIT_NUMBER}|{_COMMA_NUMBER}")
_WHOLE_NUMBER = r"\s*[+-]?\d+\s*"
_PADDED_CODE = r"0\d+"
_BOOLEANS = {"true": True, "false": False}
_EXACT_BELOW = 2.0**53


def read_numbers(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """The finite number that each text is; missing where it is none."""
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return numbers.where(np.isfinite(numbers))


def read_booleans(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """True and false by their English words in any case; missing where it is neither."""
    return text.str.strip().str.lower().map(_BOOLEANS).astype("boolean")


def read_times(text: "pd.Series[Any]", code: str | None = None) -> "pd.Series[Any]":
    """Times in UTC without a zone; missing where there is none.

    Args:
        text: What is read.
        code: The format in the codes of strptime; None for those with the year in front.
    """
    times = pd.to_datetime(text, errors="coerce", format=code or "ISO8601", utc=True)
    return times.dt.tz_localize(None)


def time_codes(name: str, distinct: "pd.Series[Any]") -> list[str | None]:
    """How dates of a format can be read, all of them, in the codes of strptime.

    Returns:
        None for what needs no code; nothing where no code reads all; several where day and month
        could be taken for one another.
    """
    if name in _READABLE:
        return [None] if read_times(distinct).notna().all() else []
    found: dict[tuple[Any, ...], str | None] = {}
    for code in _all_codes(name):
        times = read_times(distinct, code)
        if times.notna().all():
            # Codes that read the same days are the same.
            found.setdefault(tuple(times.head(1_000)), code)
    return list(found.values())


def are_dates(name: str, text: "pd.Series[Any]") -> "pd.Series[bool]":
    """Which texts are days of the calendar in one of the ways of writing a format."""
    readable = read_times(text).notna() if name in _READABLE else text.isna()
    for code in _all_codes(name):
        readable |= read_times(text, code).notna()
    return readable


def _all_codes(name: str) -> Iterator[str]:
    for date in _CODES.get(name, ()):
        for time in _TIME_CODES:
            yield date + time


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


def without_zero_fraction(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """Texts without an ending such as ``.0``."""
    return text.str.replace(r"\.0+(?=\s*$)", "", regex=True)


def are_codes(text: "pd.Series[Any]") -> bool:
    """Whether all texts are digits that are codes rather than numbers, such as 00123."""
    is_digits = text.str.fullmatch(r"\d+")
    if not is_digits.all():
        return False
    is_padded = bool(text.str.fullmatch(_PADDED_CODE).any())
    return is_padded or bool((text.str.len() > 15).any())
