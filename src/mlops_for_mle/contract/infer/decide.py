"""What each column of a source holds: its kind, its values, and what stands in the way."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.columns import is_exact, read_column
from mlops_for_mle.contract.notation import (
    NumberFormat,
    date_formats,
    date_readings,
    is_blank,
    looks_like_number,
    number_formats,
    read_times,
)
from mlops_for_mle.errors import SourceError

Kind = Literal[
    "float", "integer", "decimal", "boolean", "text", "date", "timestamp", "empty", "other"
]

# In lower case. A town may be named None, so they count only beside numbers, dates and booleans.
_MISSING_MARKS = (
    *("na", "n/a", "n.a.", "#n/a", "<na>", "nan", "nat", "null", "(null)", "\\n", "none", "nil"),
    *("infinity", "-infinity"),
    *("?", "-", "--", ".", "#value!", "#div/0!", "#ref!"),
)

# A column with so few different values may hold categories that look like numbers ("1", "2", "3+").
_FEW_VALUES = 20
_ROWS_A_VALUE = 5
_SHARE_OF_A_MISTAKE = 0.05
_SHARE_OF_A_KIND = 0.5
# Fewer numbers of eight digits could all be days of the calendar by chance.
_FEWEST_COMPACT_DATES = 3
_COMPACT_DATE = r"[12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"


class MixedError(SourceError):
    """A column holds values of several kinds, so nothing can be said of all of them."""


@dataclass(frozen=True)
class Column:
    """A column of the source.

    Attributes:
        kind: What its values are; ``other`` is what no contract can hold.
        values: The values read as that kind, missing where they are; categories, codes and other
            text stay text.
        date_format: How dates are written, in the codes of strptime; None for ISO 8601.
        number_format: How numbers are written, where they are text.
        decimal: The mark before fractions that its numbers must have; empty where both could be.
        other_reading: What a number is and what it would be with the other mark, in words.
        missing_marks: The texts that stand for a missing value.
    """

    name: str
    kind: Kind
    values: "pd.Series[Any]"
    date_format: str | None = None
    number_format: NumberFormat | None = None
    decimal: str = ""
    other_reading: str = ""
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
        return self.is_number and bool(is_exact(self.present).all())


def decide(
    name: str,
    raw: "pd.Series[Any]",
    marks: Collection[str] = (),
    *,
    find_booleans: bool = True,
    decimal: str = ".",
    date_format: str | None = None,
) -> Column:
    """Say what a column holds.

    Args:
        name: Its name in the source, for messages.
        raw: Its values, text or typed.
        marks: Texts that stand for a missing value, whatever the column holds.
        find_booleans: Whether the words true and false are booleans rather than text.
        decimal: The mark before fractions, where numbers could be read with either.
        date_format: How its dates are written, where a person says it.

    Raises:
        SourceError: It cannot be ingested as it is; says why, and the remedy.
    """
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
            # Ingestion rejects those that are not finite.
            numbers = values.astype("Float64").astype(np.float64).replace([np.inf, -np.inf], np.nan)
            found = Column(name, "integer" if kind == "integer" else "float", numbers)
            if kind == "integer" and not is_exact(numbers.dropna()).all():
                text = values.astype("string").astype(object)
                found = Column(name, "text", text.where(values.notna()))
        case "decimal":
            numbers = values.map(float, na_action="ignore").astype(np.float64)
            found = Column(name, "decimal", numbers)
        case "date" | "datetime" | "datetime64":
            times = read_times(values)
            # pandas has no type for dates.
            is_date = (times.dropna() == times.dropna().dt.normalize()).all()
            found = Column(name, "date" if is_date else "timestamp", times)
        case "string":
            text = values.astype(object).str.strip()
            found = _text(name, text, find_booleans, decimal, date_format)
    return replace(found, missing_marks=(*found.missing_marks, *raw[is_mark].unique()))


def _text(
    name: str,
    values: "pd.Series[Any]",
    find_booleans: bool,
    decimal: str,
    date_format: str | None,
) -> Column:
    """Say what text holds, at least one of which is there."""
    distinct = pd.Series(values.dropna().unique(), dtype=object)
    is_mark = distinct.str.lower().isin(_MISSING_MARKS)
    marks, rest = tuple(distinct[is_mark]), distinct[~is_mark].reset_index(drop=True)
    found, unmarked = Column(name, "text", values), values.mask(values.isin(marks))
    if rest.empty:
        return found
    is_number = looks_like_number(rest)
    if find_booleans and rest.str.lower().isin(("true", "false")).all():
        found = Column(name, "boolean", read_column(unmarked, Feature(type="boolean")))
    elif date_format is None and is_number.all():
        found = _numbers(name, unmarked, rest, decimal)
    else:
        readings = date_readings(rest, date_format)
        is_date = pd.DataFrame(readings, rest.index).notna().any(axis="columns")
        if is_date.all():
            found = _dates(name, unmarked, rest, readings)
        else:
            _refuse_mixture(name, unmarked.dropna(), "numbers", rest[is_number])
            _refuse_mixture(name, unmarked.dropna(), "dates", rest[is_date])
    if found.kind == "text":
        return Column(name, "text", values)
    return replace(found, missing_marks=marks)


def _numbers(
    name: str, values: "pd.Series[Any]", distinct: "pd.Series[Any]", decimal: str
) -> Column:
    """Text that looks like numbers: such, all written in one way, or codes, or 20240131.

    Where ``1,234`` could be read with either mark before fractions, it is a point, until other
    columns or a person say otherwise.
    """
    is_compact = distinct.str.fullmatch(_COMPACT_DATE).all() and read_times(distinct).notna().all()
    if is_compact and len(distinct) >= _FEWEST_COMPACT_DATES:
        return Column(name, "date", read_times(values))
    ways = number_formats(distinct, decimal)
    if not ways:
        raise MixedError(
            f"Column {name!r} writes numbers in more than one way, such as "
            f"{_where(values.dropna())}: write all of them alike, with the same unit or none."
        )
    chosen, read = next(iter(ways.items()))
    has_mark = distinct.str.contains(chosen.decimal, regex=False)
    is_whole = ~has_mark & ~distinct.str.contains(r"\d[eE][-+]?\d")
    is_padded = distinct.str.fullmatch(r"\d+").all() and distinct.str.match(r"0\d").any()
    if is_padded or not is_exact(read[is_whole]).all():
        return Column(name, "text", values)
    told = ""
    if len(ways) > 1 and chosen.thousands:
        value, both = _first_difference(distinct, ways)
        told = f"{value!r} is {' or '.join(f'{one:g}' for one in both)}"
    return Column(
        name,
        "integer" if is_whole.all() else "float",
        chosen.read(values),
        number_format=chosen,
        decimal=chosen.decimal if len(ways) == 1 and has_mark.any() else "",
        other_reading=told,
    )


def _dates(
    name: str,
    values: "pd.Series[Any]",
    distinct: "pd.Series[Any]",
    readings: dict[str | None, "pd.Series[Any]"],
) -> Column:
    """Text of which some format reads every value as a date."""
    ways = date_formats(readings)
    if len(ways) == 1:
        (code,) = ways
        kind: Kind = "timestamp" if distinct.str.contains(":", regex=False).any() else "date"
        return Column(name, kind, read_times(values, code), code)
    if ways:
        value, times = _first_difference(distinct, ways)
        told = " or ".join(
            f"{time:%Y-%m-%d} (--date-format '{name}={code}')"
            for time, code in sorted(zip(times, ways, strict=True))
        )
        problem = f"in which day and month could be taken for one another: {value!r} is {told}"
    else:
        problem = f"in more than one format, such as {', '.join(map(repr, distinct.head(5)))}"
    raise SourceError(f"Column {name!r} has dates {problem}. Write all of them as YYYY-MM-DD.")


def _first_difference(
    distinct: "pd.Series[Any]", ways: "Mapping[Any, pd.Series[Any]]"
) -> tuple[str, list[Any]]:
    """The first text that is read in different ways, and how."""
    read = zip(distinct, *ways.values(), strict=True)
    value, *found = next(one for one in read if one[1] != one[2])
    return value, found


def _refuse_mixture(
    name: str, present: "pd.Series[Any]", what: str, fitting: "pd.Series[Any]"
) -> None:
    """Refuse text that is mostly something else, unless the rest are categories."""
    others = present[~present.isin(fitting)]
    other_share, distinct = len(others) / len(present), present.nunique()
    is_few = distinct <= _FEW_VALUES and distinct * _ROWS_A_VALUE <= len(present)
    are_categories = is_few and other_share >= _SHARE_OF_A_MISTAKE
    if other_share <= 1 - _SHARE_OF_A_KIND and not are_categories:
        raise MixedError(
            f"Column {name!r} mixes {len(present) - len(others)} {what} with {len(others)} other "
            f"value(s) such as {_where(others)}: correct them, or name those that stand for a "
            "missing value by --missing."
        )


def _where(values: "pd.Series[Any]") -> str:
    """Up to three values, each with its row, counted as ingestion counts them."""
    first = values.drop_duplicates().head(3).items()
    return ", ".join(f"{shortened(value)!r} (row {int(str(row)) + 1})" for row, value in first)


def shortened(value: Any) -> str:
    """A value as one short line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 30 else f"{text[:29]}…"
