"""Columns of text: what they hold, or why it cannot be told."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from mlops_for_mle.contract_inference import text_values
from mlops_for_mle.contract_inference.column import Column, Kind, count, or_leave_out

# A column with so few different values may hold categories that look like numbers ("1", "2", "3+").
_FEW_VALUES = 20
# Fewer numbers of eight digits could all be days of the calendar by chance.
_FEWEST_COMPACT_DATES = 3
_ROWS_A_VALUE = 5
_SHARE_OF_A_MISTAKE = 0.05
_SHARE_OF_A_KIND = 0.2


def profile_text(name: str, values: "pd.Series[Any]", find_booleans: bool) -> Column:
    """Say what a column of text holds.

    Args:
        name: Its name in the source.
        values: Text as it stands in the source, missing where it is blank; at least one is there.
        find_booleans: Whether the words true and false are booleans rather than text.
    """
    present = values.dropna().astype(str)
    distinct = pd.Series(present.unique(), dtype=object)
    booleans = text_values.read_booleans(distinct)
    if find_booleans and booleans.notna().all():
        return Column(name, "boolean", text_values.read_booleans(values.astype("string")))
    numbers = text_values.read_numbers(distinct)
    if numbers.notna().all():
        return _digits(name, values, distinct)
    formats = distinct.map(text_values.date_format).where(numbers.isna())
    if formats.notna().all():
        return _dates(name, values, distinct, formats)
    return Column(name, "text", values, _mixture(name, present, distinct, numbers, formats))


def _digits(name: str, values: "pd.Series[Any]", distinct: "pd.Series[Any]") -> Column:
    """Text of which every value reads as a number: numbers, codes, or dates such as 20240131."""
    if distinct.str.fullmatch(r"\d{8}").all() and len(distinct) >= _FEWEST_COMPACT_DATES:
        formats = distinct.map(text_values.date_format)
        if formats.notna().all() and text_values.time_codes("YYYYMMDD", distinct):
            return _dates(name, values, distinct, formats)
    if text_values.are_codes(distinct):
        return Column(name, "text", values)
    # Where whole numbers have gaps, pandas writes them as floats.
    written = text_values.without_zero_fraction(distinct) if values.isna().any() else distinct
    kind: Kind = "integer" if text_values.are_whole_numbers(written) else "float"
    return Column(name, kind, text_values.read_numbers(values))


def _dates(
    name: str, values: "pd.Series[Any]", distinct: "pd.Series[Any]", formats: "pd.Series[Any]"
) -> Column:
    found = list(dict.fromkeys(formats))
    examples = _listing(
        f"{one} such as {distinct[(formats == one).idxmax()]!r}" for one in found[:5]
    )
    if len(found) > 1:
        return Column(
            name,
            "text",
            values,
            f"Column {name!r} has dates in {len(found)} formats ({examples}): write all of them "
            f"as YYYY-MM-DD{or_leave_out(name)}",
        )
    codes = text_values.time_codes(found[0], distinct)
    if len(codes) > 1:
        return Column(
            name,
            "text",
            values,
            f"Column {name!r} has dates as {examples} in which day and month could be taken for "
            f"one another: write them as YYYY-MM-DD{or_leave_out(name)}",
        )
    if not codes:
        return Column(name, "text", values, _no_calendar(name, values, found[0]))
    times = text_values.read_times(values, codes[0])
    kind: Kind = "timestamp" if text_values.has_time(distinct) else "date"
    return Column(name, kind, times, date_format=codes[0])


def _no_calendar(name: str, values: "pd.Series[Any]", form: str) -> str:
    """Say which dates could not be read."""
    present = values.dropna()
    unread = present[~text_values.are_dates(form, present)]
    if unread.empty:
        return (
            f"Column {name!r} writes its dates in more than one way, such as "
            f"{_where(present)}: write them as YYYY-MM-DD{or_leave_out(name)}"
        )
    return (
        f"Column {name!r} has {count(len(unread), 'date')} that no calendar has, such as "
        f"{_where(unread)}: correct them{or_leave_out(name)}"
    )


def _mixture(
    name: str,
    present: "pd.Series[Any]",
    distinct: "pd.Series[Any]",
    numbers: "pd.Series[Any]",
    formats: "pd.Series[Any]",
) -> str | None:
    """Say what is wrong with text of which a part looks like something else."""
    counts = present.value_counts()
    decorated = numbers.isna() & distinct.map(text_values.is_decorated_number)
    for what, fits in (
        ("numbers", numbers.notna()),
        ("numbers", decorated | numbers.notna()),
        ("dates", formats.notna()),
    ):
        fitting = set(distinct[fits])
        share = float(counts[counts.index.isin(fitting)].sum()) / len(present)
        others = present[~present.isin(fitting)]
        if share < _SHARE_OF_A_KIND:
            continue
        if others.empty:
            example = present[present.isin(set(distinct[decorated]))]
            return (
                f"Column {name!r} writes numbers with separators or signs, such as "
                f"{_where(example.head(1))}: write plain digits such as 1234.5"
                f"{or_leave_out(name)}"
            )
        are_categories = (
            len(distinct) <= _FEW_VALUES
            and len(distinct) * _ROWS_A_VALUE <= len(present)
            and 1 - share >= _SHARE_OF_A_MISTAKE
        )
        if not are_categories and (what == "dates" or not _looks_free(distinct, share)):
            return (
                f"Column {name!r} mixes {len(present) - len(others)} {what} with "
                f"{count(len(others), 'other value')} such as {_where(others)}: correct them, "
                f"empty those that stand for a missing value{or_leave_out(name)}"
            )
    return None


def _looks_free(distinct: "pd.Series[Any]", share: float) -> bool:
    """Whether it is rather text, of which some values happen to be digits only."""
    return share < 0.5 and float(distinct.str.contains(r"[^\W\d_]", regex=True).mean()) > 0.5


def _where(values: "pd.Series[Any]") -> str:
    """Up to three values, each with its row, counted as ingestion counts them."""
    first = values.drop_duplicates().head(3)
    return _listing(f"{_short(value)!r} (row {int(row) + 1})" for row, value in first.items())  # type: ignore[call-overload]


def _listing(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _short(value: str, limit: int = 40) -> str:
    return value if len(value) <= limit else value[: limit - 1] + "…"
