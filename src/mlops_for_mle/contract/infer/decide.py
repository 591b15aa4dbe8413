"""What each column of a source holds: its kind, its values, and what stands in the way."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.columns import is_blank, read_column, read_times
from mlops_for_mle.contract.model import EXACT_BELOW
from mlops_for_mle.errors import SourceError

Kind = Literal[
    "float", "integer", "decimal", "boolean", "text", "date", "timestamp", "empty", "other"
]

# In lower case. A town may be named None, so they count only beside numbers or dates.
_MISSING_MARKS = ("na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "--", ".")

# A column with so few different values may hold categories that look like numbers ("1", "2", "3+").
_FEW_VALUES = 20
_ROWS_A_VALUE = 5
_SHARE_OF_A_MISTAKE = 0.05
_SHARE_OF_A_KIND = 0.5
# Fewer numbers of eight digits could all be days of the calendar by chance.
_FEWEST_COMPACT_DATES = 3

_YEAR = r"(?<!\d)[12]\d{3}(?!\d)"
_ISO_DATE = r"[12]\d{3}([-/.])\d{1,2}\1\d{1,2}(?:[T ]\d.*)?"
_COMPACT_DATE = r"[12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%Y. %m. %d.", "%Y.%m.%d."),
    *("%Y년 %m월 %d일", "%Y년%m월%d일", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%B-%Y"),
    *("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_FORMATS = tuple(day + time for day in _DAYS for time in _TIMES)
# A form that reads none of so many values is not tried on the others.
_TRIED_VALUES = 100

_DECORATED_NUMBER = (
    r"[-+]?[₩$€£¥]? ?\d{1,3}(,\d{3})+(\.\d+)?(%|원)?"
    r"|[-+]?[₩$€£¥] ?\d+(\.\d+)?|[-+]?\d+(\.\d+)? ?(%|원)"
    r"|[-+]?\d+,\d+|[-+]?\d{1,3}(\.\d{3})+,\d+"
)


@dataclass(frozen=True)
class Column:
    """A column of the source.

    Attributes:
        name: Its name in the source.
        kind: What its values are; ``other`` is what no contract can hold.
        values: The values read as that kind, missing where they are; categories, codes and other
            text stay text.
        date_format: How dates are written, in the codes of strptime; None for ISO 8601.
        missing_marks: The texts that stand for a missing value.
    """

    name: str
    kind: Kind
    values: "pd.Series[Any]"
    date_format: str | None = None
    missing_marks: tuple[str, ...] = ()

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
        return self.is_number and _are_exact(self.present)


def decide(
    name: str, raw: "pd.Series[Any]", marks: Collection[str] = (), find_booleans: bool = True
) -> Column:
    """Say what a column holds.

    Args:
        name: Its name in the source.
        raw: Its values, text or typed.
        marks: Texts that stand for a missing value, whatever the column holds.
        find_booleans: Whether the words true and false are booleans rather than text.

    Raises:
        SourceError: It cannot be ingested as it is; says why, and the remedy.
    """
    raw = raw.reset_index(drop=True)
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    is_mark = raw.isin(marks)
    values = raw.mask(is_blank(raw) | is_mark)
    found = Column(name, "other", values)
    match pd.api.types.infer_dtype(values, skipna=True):
        case _ if values.isna().all():
            found = Column(name, "empty", values)
        case "boolean":
            found = Column(name, "boolean", values.astype("boolean"))
        case "integer" | "floating" | "mixed-integer-float" as kind:
            found = _numbers(name, values, is_integer=kind == "integer")
        case "decimal":
            numbers = values.map(float, na_action="ignore").astype(np.float64)
            found = Column(name, "decimal", numbers)
        case "date" | "datetime" | "datetime64":
            times = read_times(values)
            # pandas has no type for dates.
            is_date = (times.dropna() == times.dropna().dt.normalize()).all()
            found = Column(name, "date" if is_date else "timestamp", times)
        case "string":
            found = _text(name, values.astype(object).str.strip(), find_booleans)
    return replace(found, missing_marks=(*found.missing_marks, *raw[is_mark].unique()))


def _numbers(name: str, values: "pd.Series[Any]", is_integer: bool) -> Column:
    """Numbers that have a type already; ingestion rejects those that are not finite."""
    numbers = values.astype("Float64").astype(np.float64)
    numbers = numbers.where(np.isfinite(numbers))
    if is_integer and not _are_exact(numbers):
        text = values.astype("string").astype(object)
        return Column(name, "text", text.where(values.notna()))
    return Column(name, "integer" if is_integer else "float", numbers)


def _text(name: str, values: "pd.Series[Any]", find_booleans: bool) -> Column:
    """Say what text holds, at least one of which is there."""
    distinct = pd.Series(values.dropna().unique(), dtype=object)
    if find_booleans and distinct.str.strip().str.lower().isin(("true", "false")).all():
        return Column(name, "boolean", read_column(values, Feature(type="boolean")))
    is_mark = distinct.str.lower().isin(_MISSING_MARKS)
    marks, rest = tuple(distinct[is_mark]), distinct[~is_mark].reset_index(drop=True)
    found, unmarked = Column(name, "text", values), values.mask(values.isin(marks))
    is_number = _read_numbers(rest).notna()
    if rest.empty:
        return found
    if is_number.all():
        found = _digits(name, unmarked, rest)
    else:
        readings = _readings(rest)
        is_date = pd.DataFrame(readings, rest.index).notna().any(axis="columns")
        if is_date.all():
            found = _dates(name, unmarked, rest, readings)
        else:
            is_decorated = rest.str.fullmatch(_DECORATED_NUMBER) & ~is_number
            _refuse_mixture(name, unmarked.dropna(), "numbers", rest[is_number | is_decorated])
            _refuse_mixture(name, unmarked.dropna(), "dates", rest[is_date])
    if found.kind == "text":
        return Column(name, "text", values)
    return replace(found, missing_marks=marks)


def _digits(name: str, values: "pd.Series[Any]", distinct: "pd.Series[Any]") -> Column:
    """Text of which every value reads as a number: numbers, codes, or dates such as 20240131."""
    is_compact = distinct.str.fullmatch(_COMPACT_DATE).all() and read_times(distinct).notna().all()
    if is_compact and len(distinct) >= _FEWEST_COMPACT_DATES:
        return Column(name, "date", read_times(values))
    numbers = _read_numbers(values)
    if not distinct.str.fullmatch(r"\s*[+-]?\d+\s*").all():
        return Column(name, "float", numbers)
    is_padded = distinct.str.fullmatch(r"\d+").all() and distinct.str.match(r"0\d").any()
    if is_padded or not _are_exact(numbers):
        return Column(name, "text", values)
    return Column(name, "integer", numbers)


def _dates(
    name: str,
    values: "pd.Series[Any]",
    distinct: "pd.Series[Any]",
    readings: dict[str | None, "pd.Series[Any]"],
) -> Column:
    """Text of which some format reads every value as a date."""
    # Formats that read the same days are the same.
    read = [(tuple(times), code) for code, times in readings.items() if times.notna().all()]
    ways = dict(reversed(read))
    if len(ways) == 1:
        (code,) = ways.values()
        kind: Kind = "timestamp" if distinct.str.contains(":", regex=False).any() else "date"
        return Column(name, kind, read_times(values, code), code)
    if ways:
        value, *times = next(one for one in zip(distinct, *ways, strict=True) if one[1] != one[2])
        told = " or ".join(f"{time:%Y-%m-%d}" for time in sorted(times))
        problem = f"in which day and month could be taken for one another: {value!r} is {told}"
    else:
        problem = f"in more than one format, such as {', '.join(map(repr, distinct.head(5)))}"
    raise SourceError(f"Column {name!r} has dates {problem}. Write all of them as YYYY-MM-DD.")


def _readings(distinct: "pd.Series[Any]") -> dict[str | None, "pd.Series[Any]"]:
    """The times that each format reads, of those that read any; None is ISO 8601."""
    likely = distinct[distinct.str.contains(_YEAR)]
    sample = likely.sample(min(len(likely), _TRIED_VALUES), random_state=0)
    found: dict[str | None, pd.Series[Any]] = {
        code: read_times(distinct, code)
        for code in (() if likely.empty else _FORMATS)
        if read_times(sample, code).notna().any()
    }
    is_iso = distinct.str.fullmatch(_ISO_DATE)
    if is_iso.any():
        found[None] = read_times(distinct.where(is_iso))
    return found


def _refuse_mixture(
    name: str, present: "pd.Series[Any]", what: str, fitting: "pd.Series[Any]"
) -> None:
    """Refuse text that is mostly something else, unless the rest are categories."""
    others = present[~present.isin(fitting)]
    share, distinct = 1 - len(others) / len(present), present.nunique()
    if share < _SHARE_OF_A_KIND:
        return
    if others.empty:
        raise SourceError(
            f"Column {name!r} writes numbers with separators or signs, such as "
            f"{_where(present[_read_numbers(present).isna()])}: write plain digits such as 1234.5."
        )
    is_few = distinct <= _FEW_VALUES and distinct * _ROWS_A_VALUE <= len(present)
    if not is_few or 1 - share < _SHARE_OF_A_MISTAKE:
        raise SourceError(
            f"Column {name!r} mixes {len(present) - len(others)} {what} with {len(others)} other "
            f"value(s) such as {_where(others)}: correct them, or name those that stand for a "
            "missing value by --missing."
        )


def _read_numbers(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """The finite number that each text is; missing where it is none."""
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float64)
    return numbers.where(np.isfinite(numbers))


def _are_exact(numbers: "pd.Series[Any]") -> bool:
    """Whether they are whole numbers that a float64 keeps exactly, or missing."""
    present = numbers.dropna().to_numpy(np.float64)
    return bool(((present == np.trunc(present)) & (np.abs(present) < EXACT_BELOW)).all())


def _where(values: "pd.Series[Any]") -> str:
    """Up to three values, each with its row, counted as ingestion counts them."""
    first = values.drop_duplicates().head(3).items()
    return ", ".join(f"{shortened(value)!r} (row {int(str(row)) + 1})" for row, value in first)


def shortened(value: Any) -> str:
    """A value as one short line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 30 else f"{text[:29]}…"
