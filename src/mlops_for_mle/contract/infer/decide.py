"""What each column of a source holds: its kind, its values, and what stands in the way."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mlops_for_mle.contract.columns import is_blank, read_times
from mlops_for_mle.contract.model import EXACT_BELOW
from mlops_for_mle.errors import SourceError

Kind = Literal[
    "float", "integer", "decimal", "boolean", "text", "date", "timestamp", "empty", "other"
]

# A column with so few different values may hold categories that look like numbers ("1", "2", "3+").
_FEW_VALUES = 20
_ROWS_A_VALUE = 5
# Fewer numbers of eight digits could all be days of the calendar by chance.
_FEWEST_COMPACT_DATES = 3
_SHARE_OF_A_MISTAKE = 0.05
_SHARE_OF_A_KIND = 0.2

_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?(?:Z|[+-]\d{2}:?\d{2}))?)?"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
# How dates may be written, and what each may be in the codes of strptime; None is ISO 8601.
_DATES: dict[str, tuple[str, tuple[str | None, ...]]] = {
    "YYYY-MM-DD": (r"[12]\d{3}-\d{1,2}-\d{1,2}", (None,)),
    "YYYY/MM/DD": (r"[12]\d{3}/\d{1,2}/\d{1,2}", (None,)),
    "YYYY.MM.DD": (r"[12]\d{3}\.\d{1,2}\.\d{1,2}", (None,)),
    "YYYY. M. D.": (
        r"[12]\d{3}\. ?\d{1,2}\. ?\d{1,2}\.",
        ("%Y. %m. %d.", "%Y.%m.%d."),
    ),
    "YYYYMMDD": (r"[12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", (None,)),
    "DD/MM/YYYY or MM/DD/YYYY": (r"\d{1,2}/\d{1,2}/[12]\d{3}", ("%d/%m/%Y", "%m/%d/%Y")),
    "DD-MM-YYYY or MM-DD-YYYY": (r"\d{1,2}-\d{1,2}-[12]\d{3}", ("%d-%m-%Y", "%m-%d-%Y")),
    "DD.MM.YYYY": (r"\d{1,2}\.\d{1,2}\.[12]\d{3}", ("%d.%m.%Y",)),
    "YYYY년 M월 D일": (r"[12]\d{3}년 ?\d{1,2}월 ?\d{1,2}일", ("%Y년 %m월 %d일", "%Y년%m월%d일")),
    "D Month YYYY": (
        rf"\d{{1,2}}[ -]{_MONTH}[ -][12]\d{{3}}",
        ("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%B-%Y"),
    ),
    "Month D, YYYY": (
        rf"{_MONTH} \d{{1,2}},? [12]\d{{3}}",
        ("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"),
    ),
}
_DATE_NAMES = tuple(_DATES)
_DATE = re.compile(
    "(?:" + "|".join(f"({pattern})" for pattern, _ in _DATES.values()) + f"){_TIME}", re.IGNORECASE
)
_TIME_CODES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")

_DECORATED_NUMBER = re.compile(
    r"[-+]?[₩$€£¥]? ?\d{1,3}(,\d{3})+(\.\d+)?(%|원)?"
    r"|[-+]?[₩$€£¥] ?\d+(\.\d+)?|[-+]?\d+(\.\d+)? ?(%|원)"
    r"|[-+]?\d+,\d+|[-+]?\d{1,3}(\.\d{3})+,\d+"
)
_BOOLEANS = {"true": True, "false": False}
# Numbers beside text come out of spreadsheets.
_SPREADSHEET_TYPES = {str, bool, int, float}


@dataclass(frozen=True)
class Column:
    """A column of the source.

    Attributes:
        name: Its name in the source.
        kind: What its values are; ``other`` is what no contract can hold.
        values: The values read as that kind, missing where they are; codes of categories and
            other text stay text.
        date_format: How dates are written, in the codes of strptime; None for ISO 8601.
    """

    name: str
    kind: Kind
    values: "pd.Series[Any]"
    date_format: str | None = None

    @cached_property
    def present(self) -> "pd.Series[Any]":
        """The values that are not missing."""
        return self.values.dropna()

    @cached_property
    def missing_count(self) -> int:
        """In how many rows the value is missing."""
        return len(self.values) - len(self.present)

    @cached_property
    def counts(self) -> "pd.Series[int]":
        """How often each value occurs: the most frequent first, equals in their own order."""
        if self.kind == "other":
            return pd.Series(dtype="int64")
        return self.present.value_counts().sort_index().sort_values(ascending=False, kind="stable")

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in ("float", "integer", "decimal")

    @property
    def is_time(self) -> bool:
        """Whether the values are dates or times."""
        return self.kind in ("date", "timestamp")

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers that a float64 keeps exactly, however written."""
        values = self.present.to_numpy(np.float64) if self.is_number else np.array([0.5])
        return bool(((values == np.trunc(values)) & (np.abs(values) < EXACT_BELOW)).all())


def decide(name: str, raw: "pd.Series[Any]", find_booleans: bool = True) -> Column:
    """Say what a column holds.

    Args:
        name: Its name in the source.
        raw: Its values, text or typed.
        find_booleans: Whether the words true and false are booleans rather than text.

    Raises:
        SourceError: It cannot be ingested as it is; says why, and the remedy.
    """
    raw = raw.reset_index(drop=True)
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    values = raw.mask(is_blank(raw))
    found = Column(name, "other", values)
    match pd.api.types.infer_dtype(values, skipna=True):
        case _ if not values.notna().any():
            found = Column(name, "empty", values)
        case "boolean":
            found = Column(name, "boolean", values.astype("boolean"))
        case "integer":
            found = _whole_numbers(name, values)
        case "floating" | "mixed-integer-float":
            found = _floats(name, values)
        case "decimal":
            numbers = values.map(float, na_action="ignore").astype(np.float64)
            found = Column(name, "decimal", numbers)
        case "date":
            found = Column(name, "date", pd.to_datetime(values))
        case "datetime" | "datetime64":
            times = pd.to_datetime(values, utc=True).dt.tz_localize(None)
            # pandas has no type for dates.
            is_date = (times.dropna() == times.dropna().dt.normalize()).all()
            found = Column(name, "date" if is_date else "timestamp", times)
        case "string":
            found = _text(name, values, find_booleans)
        case "mixed" | "mixed-integer" if {*map(type, values.dropna())} <= _SPREADSHEET_TYPES:
            # As they would stand in a CSV file.
            found = _text(name, values.where(values.isna(), values.astype(str)), find_booleans)
    return found


def _whole_numbers(name: str, values: "pd.Series[Any]") -> Column:
    numbers = values.astype("Float64").astype(np.float64)
    if (numbers.abs() >= EXACT_BELOW).any():
        text = values.astype("string").astype(object)
        return Column(name, "text", text.where(values.notna()))
    return Column(name, "integer", numbers)


def _floats(name: str, values: "pd.Series[Any]") -> Column:
    numbers = values.astype("Float64").astype(np.float64)
    present = numbers.dropna()
    infinite = int(np.isinf(present).sum())
    if infinite:
        raise SourceError(
            f"Column {name!r} is infinite in {count(infinite, 'row')}: put finite or missing "
            "values in their place"
        )
    # Where whole numbers have gaps, pandas makes them floats.
    is_whole = len(present) < len(numbers) and (present == np.trunc(present)).all()
    return Column(name, "integer" if is_whole else "float", numbers)


def _text(name: str, values: "pd.Series[Any]", find_booleans: bool) -> Column:
    """Say what text holds, at least one of which is there."""
    present = values.dropna().astype(str)
    distinct = pd.Series(present.unique(), dtype=object)
    booleans = _read_booleans(distinct)
    if find_booleans and booleans.notna().all():
        return Column(name, "boolean", _read_booleans(values.astype("string")))
    numbers = _read_numbers(distinct)
    forms = distinct.map(_date_form)
    if numbers.notna().all():
        return _digits(name, values, distinct, forms)
    forms = forms.where(numbers.isna())
    if forms.notna().all():
        return _dates(name, values, distinct, forms)
    _refuse_mixture(name, present, distinct, numbers, forms)
    return Column(name, "text", values)


def _digits(
    name: str, values: "pd.Series[Any]", distinct: "pd.Series[Any]", forms: "pd.Series[Any]"
) -> Column:
    """Text of which every value reads as a number: numbers, codes, or dates such as 20240131."""
    if (forms == "YYYYMMDD").all() and len(distinct) >= _FEWEST_COMPACT_DATES:
        times = read_times(values)
        if read_times(distinct).notna().all():
            return Column(name, "date", times)
    is_padded = distinct.str.fullmatch(r"0\d+").any() or (distinct.str.len() > 15).any()
    if is_padded and distinct.str.fullmatch(r"\d+").all():
        return Column(name, "text", values)
    numbers = _read_numbers(values)
    # Where whole numbers have gaps, pandas writes them as floats.
    fraction = r"(?:\.0+)?" if values.isna().any() else ""
    is_whole = distinct.str.fullmatch(rf"\s*[+-]?\d+{fraction}\s*").all()
    is_exact = (numbers.abs() < EXACT_BELOW) | numbers.isna()
    return Column(name, "integer" if is_whole and is_exact.all() else "float", numbers)


def _dates(
    name: str, values: "pd.Series[Any]", distinct: "pd.Series[Any]", forms: "pd.Series[Any]"
) -> Column:
    """Text of which every value looks like a date."""
    found = list(dict.fromkeys(forms))
    examples = ", ".join(
        f"{one} such as {distinct[(forms == one).idxmax()]!r}" for one in found[:5]
    )
    codes = _date_codes(found[0], distinct) if len(found) == 1 else []
    if len(codes) == 1:
        kind: Kind = "timestamp" if distinct.str.contains(":", regex=False).any() else "date"
        return Column(name, kind, read_times(values, codes[0]), codes[0])
    present, remedy = values.dropna(), "write all of them as YYYY-MM-DD"
    is_date = present.isna()
    for code in _possible_codes(found[0]):
        is_date |= read_times(present, code).notna()
    if len(found) > 1:
        problem = f"has dates in {len(found)} formats ({examples})"
    elif len(codes) > 1:
        problem = f"has dates as {examples} in which day and month could be taken for one another"
    elif is_date.all():
        problem = f"writes its dates in more than one way, such as {_where(present)}"
    else:
        unread, remedy = present[~is_date], "correct them"
        problem = f"has {count(len(unread), 'date')} that no calendar has, such as {_where(unread)}"
    raise SourceError(f"Column {name!r} {problem}: {remedy}")


def _refuse_mixture(
    name: str,
    present: "pd.Series[Any]",
    distinct: "pd.Series[Any]",
    numbers: "pd.Series[Any]",
    forms: "pd.Series[Any]",
) -> None:
    """Say what is wrong with text of which a part looks like something else."""
    decorated = numbers.isna() & distinct.map(lambda one: bool(_DECORATED_NUMBER.fullmatch(one)))
    for what, fits in (
        ("numbers", numbers.notna()),
        ("numbers", decorated | numbers.notna()),
        ("dates", forms.notna()),
    ):
        others = present[~present.isin(distinct[fits])]
        share = 1 - len(others) / len(present)
        if share < _SHARE_OF_A_KIND:
            continue
        if others.empty:
            example = present[present.isin(distinct[decorated])].head(1)
            raise SourceError(
                f"Column {name!r} writes numbers with separators or signs, such as "
                f"{_where(example)}: write plain digits such as 1234.5"
            )
        are_categories = (
            len(distinct) <= _FEW_VALUES
            and len(distinct) * _ROWS_A_VALUE <= len(present)
            and 1 - share >= _SHARE_OF_A_MISTAKE
        )
        # Rather text, of which some values happen to be digits only.
        are_words = share < 0.5 and distinct.str.contains(r"[^\W\d_]", regex=True).mean() > 0.5
        if not are_categories and (what == "dates" or not are_words):
            raise SourceError(
                f"Column {name!r} mixes {len(present) - len(others)} {what} with "
                f"{count(len(others), 'other value')} such as {_where(others)}: correct them, "
                "empty those that stand for a missing value"
            )


def _read_numbers(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """The finite number that each text is; missing where it is none."""
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return numbers.where(np.isfinite(numbers))


def _read_booleans(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """True and false by their English words in any case; missing where it is neither."""
    return text.str.strip().str.lower().map(_BOOLEANS).astype("boolean")


def _date_form(text: str) -> str | None:
    """The name of the form of a date or time; None where it is none."""
    found = _DATE.fullmatch(text)
    return None if found is None else _DATE_NAMES[(found.lastindex or 1) - 1]


def _possible_codes(form: str) -> Iterator[str | None]:
    for date in _DATES[form][1]:
        if date is None:
            yield None
        else:
            yield from (date + time for time in _TIME_CODES)


def _date_codes(form: str, distinct: "pd.Series[Any]") -> list[str | None]:
    """How dates can be read, all of them; several where day and month could be confused."""
    found: dict[tuple[Any, ...], str | None] = {}
    for code in _possible_codes(form):
        times = read_times(distinct, code)
        if times.notna().all():
            # Codes that read the same days are the same.
            found.setdefault(tuple(times.head(1_000)), code)
    return list(found.values())


def count(number: int, noun: str) -> str:
    """A number with its noun, for messages."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _where(values: "pd.Series[Any]") -> str:
    """Up to three values, each with its row, counted as ingestion counts them."""
    first: Iterable[Any] = values.drop_duplicates().head(3).items()
    return ", ".join(f"{shortened(value, 40)!r} (row {int(row) + 1})" for row, value in first)


def shortened(value: Any, limit: int = 30) -> str:
    """A value as one short line."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
