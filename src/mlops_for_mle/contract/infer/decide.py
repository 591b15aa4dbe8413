"""What each column of a source holds: its kind, its values, and what stands in the way."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.columns import is_exact, read_column
from mlops_for_mle.contract.notation import (
    DecimalMark,
    NumberFormat,
    date_formats,
    date_readings,
    is_blank,
    looks_like_number,
    number_formats,
    read_times,
)

Kind = Literal["float", "integer", "decimal", "boolean", "text", "date", "timestamp", "other"]

# In lower case. A town may be named None, so they count only beside numbers, dates and booleans.
_MISSING_MARKS = (
    r"#?n/?a|n\.a\.|<na>|nan|nat|\(?null\)?|\\n|none|nil|-?infinity|\?|--?|\.|#(value|div/0|ref)!"
)

# A column with so few different values may hold categories that look like numbers ("1", "2", "3+").
_FEW_VALUES = 20
_ROWS_A_VALUE = 5
_SHARE_OF_A_MISTAKE = 0.05
_SHARE_OF_A_KIND = 0.5
# Fewer numbers of eight digits could all be days of the calendar by chance.
_FEWEST_COMPACT_DATES = 3
_COMPACT_DATE = r"[12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"


@dataclass(frozen=True)
class Column:
    """A column of the source, under the contract's name.

    Attributes:
        kind: What its values are; ``other`` is what no contract can hold.
        values: Read as that kind, missing where they are; categories and codes stay text.
        written: How its values are written, by the option of ingestion that says it.
        decimal: The mark before fractions that its numbers must have; empty where both could be.
        question: What only a person can decide; of numbers, where no other column tells.
        left_out: Why it is neither feature nor target, as the end of a sentence.
        keys: What the contract says of it as a feature.
        remark: What a person should know when reviewing it.
    """

    name: str
    kind: Kind
    values: "pd.Series[Any]"
    written: Mapping[str, Any] = field(default_factory=dict)
    decimal: str = ""
    question: str = ""
    left_out: str = ""
    keys: dict[str, Any] | None = None
    remark: str = ""

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
    decimal: DecimalMark = ".",
    date_format: str | None = None,
    *,
    is_target: bool = False,
) -> Column:
    """Say what a column holds, text or typed.

    Some ``marks`` stand for a missing value, whatever it holds. Where numbers could be read with
    either mark before fractions, it is ``decimal``. Dates have a ``date_format`` where a person
    says it. Of a target the words true and false are classes like others.
    """
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    blank = is_blank(raw)
    values = raw.mask(blank | raw.isin(marks))
    found = Column(name, "other", values)
    match pd.api.types.infer_dtype(values, skipna=True):
        case _ if values.isna().all():
            return replace(found, left_out="is empty in every row")
        case "boolean":
            found = Column(name, "boolean", values.astype("boolean"))
        case "integer" | "floating" | "mixed-integer-float" | "decimal" as inferred:
            kind: Kind = inferred if inferred in ("integer", "decimal") else "float"
            # Ingestion rejects those that are not finite.
            numbers = read_column(values, Feature())
            found = Column(name, kind, numbers.replace([np.inf, -np.inf], np.nan))
            if kind == "integer" and not found.is_whole:
                text = values.astype("string").astype(object)
                found = Column(name, "text", text.where(values.notna()))
        case "date" | "datetime" | "datetime64":
            times = read_times(values)
            # pandas has no type for dates.
            is_date = (times.dropna() == times.dropna().dt.normalize()).all()
            found = Column(name, "date" if is_date else "timestamp", times)
        case "string":
            found = Column(name, "text", values.astype(object).str.strip())
            found = _read_text(found, decimal, date_format, is_target)
        case _:
            told = f"holds values such as {shortened(found.present.iloc[0])}"
            return replace(found, left_out=f"{told}, which no contract can hold")
    unread = raw[found.values.isna() & ~blank].unique()
    all_marks = [one for one in unread if isinstance(one, str)]
    return replace(found, written={**found.written, "missing_marks": all_marks})


def _read_text(text: Column, decimal: DecimalMark, form: str | None, is_target: bool) -> Column:
    """Say what text holds, at least one of which is there."""
    distinct = pd.Series(text.present.unique(), dtype=object)
    is_mark = distinct.str.lower().str.fullmatch(_MISSING_MARKS)
    rest = distinct[~is_mark].reset_index(drop=True)
    if rest.empty:
        return text
    found = replace(text, values=text.values.where(text.values.isin(rest)))
    is_number = looks_like_number(rest)
    if not is_target and rest.str.lower().isin(("true", "false")).all():
        flags = read_column(found.values, Feature(type="boolean"))
        found = replace(found, kind="boolean", values=flags)
    elif form is None and is_number.all():
        found = _numbers(found, rest, decimal)
    else:
        readings = date_readings(rest, form)
        is_date = pd.DataFrame(readings, rest.index).notna().any(axis="columns")
        if is_date.all():
            found = _dates(found, rest, readings)
        else:
            found = _mixture(found, {"numbers": rest[is_number], "dates": rest[is_date]})
    return text if found.kind == "text" else found


def _numbers(text: Column, distinct: "pd.Series[Any]", decimal: DecimalMark) -> Column:
    """Text that looks like numbers: such, all written in one way, or codes, or 20240131.

    Where ``1,234`` could be read with either mark before fractions, ``decimal`` decides.
    """
    is_compact = distinct.str.fullmatch(_COMPACT_DATE).all() and read_times(distinct).notna().all()
    if is_compact and len(distinct) >= _FEWEST_COMPACT_DATES:
        return replace(text, kind="date", values=read_times(text.values))
    ways = number_formats(distinct, decimal)
    if not ways:
        told = f"writes numbers in more than one way, such as {_where(text.present)}"
        remedy = "write all of them alike, with the same unit or none"
        return replace(text, kind="other", left_out=f"{told}: {remedy}")
    chosen, read = next(iter(ways.items()))
    has_mark = distinct.str.contains(chosen.decimal, regex=False)
    is_whole = ~has_mark & ~distinct.str.contains(r"\d[eE][-+]?\d")
    is_padded = distinct.str.fullmatch(r"\d+").all() and distinct.str.match(r"0\d").any()
    if is_padded or not is_exact(read[is_whole]).all():
        return text
    question = ""
    if len(ways) > 1 and chosen.thousands:
        options = {".": "--decimal point", ",": "--decimal comma"}
        by_option = {options[way.decimal]: numbers for way, numbers in ways.items()}
        question = _question(text, "numbers that could be others", distinct, by_option, "{:g}")
    is_usual = chosen == NumberFormat(decimal=decimal)
    return replace(
        text,
        kind="integer" if is_whole.all() else "float",
        values=chosen.read(text.values),
        written={} if is_usual else {"number_formats": chosen.model_dump(exclude_defaults=True)},
        decimal=chosen.decimal if len(ways) == 1 and has_mark.any() else "",
        question=question,
    )


def _dates(
    text: Column, distinct: "pd.Series[Any]", readings: dict[str | None, "pd.Series[Any]"]
) -> Column:
    """Text of which some format reads every value as a date."""
    ways = date_formats(readings)
    if not ways:
        told = f"has dates in more than one format, such as {_where(text.present)}"
        return replace(text, kind="other", left_out=f"{told}: write all of them as YYYY-MM-DD")
    if len(ways) > 1:
        what = "dates in which day and month could be taken for one another"
        options = {f"--date-format '{text.name}={code}'": times for code, times in ways.items()}
        question = _question(text, what, distinct, options, "{:%Y-%m-%d}")
        return replace(text, kind="other", question=question)
    (code,) = ways
    kind: Kind = "timestamp" if distinct.str.contains(":", regex=False).any() else "date"
    written = {"date_formats": code} if code else {}
    return replace(text, kind=kind, values=read_times(text.values, code), written=written)


def _question(
    text: Column, what: str, distinct: "pd.Series[Any]", ways: Mapping[str, Any], shape: str
) -> str:
    """What a person is asked who has to decide between readings, by the options that do so."""
    read = zip(distinct, *ways.values(), strict=True)
    value, *found = next(one for one in read if one[1] != one[2])
    told = sorted(f"{shape.format(one)} ({way})" for one, way in zip(found, ways, strict=True))
    return f"Column {text.name!r} has {what}: {value!r} is {' or '.join(told)}."


def _mixture(text: Column, kinds: "Mapping[str, pd.Series[Any]]") -> Column:
    """Text that is partly of other kinds: categories, or mostly of one with mistakes."""
    present, distinct = text.present, text.present.nunique()
    is_few = distinct <= _FEW_VALUES and distinct * _ROWS_A_VALUE <= len(present)
    for kind, fitting in kinds.items():
        others = present[~present.isin(fitting)]
        other_share = len(others) / len(present)
        are_categories = is_few and other_share >= _SHARE_OF_A_MISTAKE
        if other_share <= 1 - _SHARE_OF_A_KIND and not are_categories:
            told = f"mixes {len(present) - len(others)} {kind} with {len(others)} other value(s)"
            remedy = "correct them, or name those that stand for a missing value by --missing"
            reason = f"{told} such as {_where(others)}: {remedy}"
            return replace(text, kind="other", left_out=reason)
    return text


def _where(values: "pd.Series[Any]") -> str:
    """Up to three values, each with its row, counted as ingestion counts them."""
    first = values.drop_duplicates().head(3).items()
    return ", ".join(f"{shortened(value)!r} (row {int(str(row)) + 1})" for row, value in first)


def shortened(value: Any) -> str:
    """A value as one short line."""
    text = one_line(str(value))
    return text if len(text) <= 30 else f"{text[:29]}…"


def one_line(text: str) -> str:
    """Text without line breaks, control characters and blanks that nobody sees."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
