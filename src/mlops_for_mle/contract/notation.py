"""How a source writes values as text: missing ones, numbers, dates and times.

Either a column is read in a given notation, or the notations that can read it are found.
"""

import re
from collections.abc import Collection
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_for_mle.contract.model import Configuration, Name

_UNIT = r"R\$|[$€£¥₩₹₽\\]|원|円|元|%|USD|EUR|GBP|JPY|KRW|CNY"
_DIGITS = r"(?:[1-9]\d{0,2}(?:[.,' ]\d{2,3})*[.,' ]\d{3}|\d+)(?:[.,]\d*)?|[.,]\d+"
_DECORATED = rf"[-+(]*(?:{_UNIT})? ?[-+]?(?:{_DIGITS})(?:[eE][-+]?\d+)? ?(?:{_UNIT})?\)?"
_ADDRESS = r"(?:\d{1,3}\.){3}\d{1,3}"

_ISO_DATE = r"[12]\d{3}([-/.])\d{1,2}\1\d{1,2}(?:[T ]\d\d?:.*)?"
DATE_LIKE = (
    r"(?<!\d)(?:1[6-9]|2[01])\d\d(?!\d)|(?<![\d.])\d{1,2}[./-]\d{1,2}[./-]\d\d(?![\d.])"
    r"|[A-Za-z]{3}[ -]\d\d(?!\d)"
)
_DAYS = (
    "%d/%m/%Y|%m/%d/%Y|%d-%m-%Y|%m-%d-%Y|%d.%m.%Y|%Y-%m-%d|%Y/%m/%d|%Y.%m.%d|%Y. %m. %d.|%Y.%m.%d."
    "|%Y년 %m월 %d일|%Y년%m월%d일|%Y년 %m월"
    "|%d/%m/%y|%m/%d/%y|%y/%m/%d|%d.%m.%y|%y.%m.%d|%d-%m-%y|%y-%m-%d"
    "|%d %b %Y|%d %B %Y|%d-%b-%Y|%d-%B-%Y|%d-%b-%y|%b %d, %Y|%B %d, %Y|%b-%d-%Y|%B-%d-%Y|%b %d %Y"
    "|%B %d %Y|%d%b%Y|%b-%y|%b-%Y|%b %Y|%B %Y|%Y-%m|%m/%Y"
)
_TIMES = (
    "| %H:%M| %H:%M:%S| %I:%M %p| %I:%M%p| %I:%M:%S %p| %I:%M:%S%p| %p %I:%M| %p %I:%M:%S|:%H:%M:%S"
    "| %H:%M:%S.%f|:%H:%M:%S.%f| %H:%M %z| %H:%M:%S %z| %H:%M UTC| %H:%M:%S UTC"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# A format that reads none of so many values is not tried on the others.
_TRIED_VALUES = 100
# 24.12.31 is the 31st rather than a far-off 24th, if all dates of its column would be a 24th.
_FAR_YEAR, _FEW_DAYS = 2029, 3

Series: TypeAlias = "pd.Series[Any]"
Dates: TypeAlias = dict[str | None, Series]
"""What each format reads, which is a code of ``strptime``, or None for ISO 8601."""
DecimalMark = Literal[".", ","]
"""What stands before the fraction of a number."""


class NumberFormat(Configuration):
    """How the numbers of a column are written; parentheses make one negative.

    Attributes:
        decimal: The mark before the fraction.
        thousands: The mark between groups of digits; a blank stands for any kind of blank.
        unit: Stands before or behind every number, such as ``$``; of ``12%`` it leaves 12.
    """

    decimal: DecimalMark = "."
    thousands: Literal["", ",", ".", "'", " "] = ""
    unit: str = ""

    def read(self, text: Series) -> "pd.Series[float]":
        """The number that each text is; missing where it is none in this format."""
        plain = _with_plain_signs(text)
        if self.unit:
            unit = re.escape(self.unit)
            edge = rf"^([-+(]*) ?{unit} ?| ?{unit}(?=\)?$)"
            without = plain.str.replace(edge, r"\1", n=1, regex=True)
            plain = without.where(without != plain)
        plain = plain.str.replace(r"^\((.*)\)$", r"-\1", regex=True)
        mark, decimal = re.escape(self.thousands), re.escape(self.decimal)
        groups = rf"[1-9]\d{{0,2}}(?:{mark}\d{{2,3}})*{mark}\d{{3}}|" if mark else ""
        number = rf"[-+]?(?:(?:{groups}\d+)(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][-+]?\d+)?"
        plain = plain.where(plain.str.fullmatch(number))
        if mark:
            plain = plain.str.replace(self.thousands, "", regex=False)
        plain = plain.str.replace(self.decimal, ".", regex=False)
        return pd.to_numeric(plain, errors="coerce").astype(np.float64)


class Notation(Configuration):
    """How the columns of a source are written, by the contract's names of columns.

    Attributes:
        missing_marks: The texts that stand for a missing value, such as ``?``.
        number_formats: How numbers are written; plain digits where nothing is said.
        date_formats: How dates and times are written, in the codes of ``strptime`` such as
            ``%d.%m.%Y``; ISO 8601 where nothing is said.
        ignore_case: Columns of text in which ``yes`` and ``YES`` are the category ``Yes``.
    """

    missing_marks: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    number_formats: dict[Name, NumberFormat] = Field(default_factory=dict)
    date_formats: dict[Name, str] = Field(default_factory=dict)
    ignore_case: tuple[Name, ...] = ()

    def without(self, columns: Collection[str]) -> "Notation":
        """The same for a source of which some columns hold plain numbers, or times in ISO 8601."""
        numbers = {name: one for name, one in self.number_formats.items() if name not in columns}
        dates = {name: code for name, code in self.date_formats.items() if name not in columns}
        return self.model_copy(update={"number_formats": numbers, "date_formats": dates})


def read_times(raw: Series, date_format: str | None = None) -> Series:
    """Read times as UTC without a zone, missing where there is none."""
    if raw.dtype.kind == "M":
        times = pd.to_datetime(raw, utc=True)
    else:
        text = raw.astype("string")
        if date_format is None:
            # pandas also knows "now"; a finer fraction than Postgres keeps would narrow the years.
            text = text.where(text.str.match(r"\s*[0-9]{4}")).str.replace(
                r"(\.[0-9]{6})[0-9]+|\s*(?:UTC|GMT)?\s*$", r"\1", regex=True
            )
        elif "%p" in date_format:
            text = text.replace({"오전": "AM", "오후": "PM"}, regex=True)
        date_format = date_format or "ISO8601"
        times = pd.to_datetime(text, errors="coerce", format=date_format, utc=True)
    naive = times.dt.tz_localize(None)
    return naive.where(naive.dt.year.between(1, 9999)).astype("datetime64[us]")


def mask_missing(raw: Series, marks: Collection[str] = ()) -> Series:
    """A column with None for what stands for a missing value: null, only spaces, or a mark.

    Bytes are text; NUL, which is refused everywhere, stands for what is no UTF-8 in them.
    """
    if raw.dtype.kind in "biufM":
        return raw
    if raw.dtype == "str":
        return raw.mask((raw.str.strip() == "") | raw.isin(marks))

    def present_value(value: Any) -> Any:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "surrogateescape")
        if not isinstance(value, str):
            return value
        value = value if value.isascii() else _SURROGATE.sub("\x00", value)
        return value if value.strip() and value not in marks else None

    return pd.Series(map(present_value, raw), raw.index, object)


def looks_like_number(text: Series) -> "pd.Series[bool]":
    """Which texts are digits with units, signs and marks between them, in whatever way."""
    plain = _with_plain_signs(text)
    return plain.str.fullmatch(_DECORATED).astype(bool) & (not plain.str.fullmatch(_ADDRESS).all())


def number_formats(text: Series, decimal: DecimalMark) -> dict[NumberFormat, Series]:
    """The formats that read every text as a number, ``decimal`` first; one for each reading."""
    plain = _with_plain_signs(text)
    units = plain.str.extract(f"({_UNIT})")[0].fillna("").unique()
    if len(units) > 1:
        return {}
    group_marks = ["", *(mark for mark in ",.' " if plain.str.contains(mark, regex=False).any())]
    readings: dict[NumberFormat, Series] = {}
    for decimal_mark in sorted(".,", key=lambda mark: mark != decimal):
        for group_mark in group_marks:
            marks = {"decimal": decimal_mark, "thousands": group_mark, "unit": units[0]}
            number_format = NumberFormat.model_validate(marks)
            numbers = number_format.read(text)
            is_new = not any(numbers.equals(reading) for reading in readings.values())
            if group_mark != decimal_mark and np.isfinite(numbers).all() and is_new:
                readings[number_format] = numbers
    return readings


def date_readings(text: Series, date_format: str | None) -> Dates:
    """The times that each known format reads, if it reads any; or that the given format reads."""
    if date_format is not None:
        return {date_format: read_times(text, date_format)}
    readings: Dates = {}
    is_iso = text.str.fullmatch(_ISO_DATE)
    if is_iso.any():
        readings[None] = read_times(text.where(is_iso))
    likely = text[text.str.contains(DATE_LIKE)]
    if likely.empty or (None in readings and readings[None].notna().all()):
        return readings
    sample = likely.sample(min(len(likely), _TRIED_VALUES), random_state=0)
    for day in _DAYS.split("|"):
        if pd.to_datetime(sample, errors="coerce", format=day, exact=False).isna().all():
            continue
        for code in (f"{day}{time}" for time in _TIMES.split("|")):
            if read_times(sample, code).notna().any():
                times = read_times(text, code)
                readings[code] = times.where(times.dt.year.between(1600, 2199))
    return readings


def date_formats(readings: Dates) -> Dates:
    """The distinct readings that read every text and do not misread its years."""
    full = {code: times for code, times in readings.items() if times.notna().all()}
    likely = {}
    for code, times in full.items():
        is_far = "%y" in (code or "") and times.dt.year.max() >= _FAR_YEAR
        if not is_far or times.dt.day.nunique() > _FEW_DAYS:
            likely[code] = times
    distinct: Dates = {}
    # A month of expiry may well lie in the far future, if nothing else reads it.
    for code, times in (likely or full).items():
        if not any(times.equals(other) for other in distinct.values()):
            distinct[code] = times
    return distinct


def _with_plain_signs(text: Series) -> Series:
    """Blanks, digits, minus signs and apostrophes of any typography as those of ASCII."""
    plain = text.astype("string").str.strip()
    if plain.str.isascii().all():
        return plain
    return plain.str.normalize("NFKC").str.strip().str.translate({0x2212: "-", 0x2019: "'"})
