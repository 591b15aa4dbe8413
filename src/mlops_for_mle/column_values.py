"""Reads columns of a source, text or typed, as the contract's types.

Each reader gives a column in which what is blank or cannot be read is missing. Numbers come as
float64, so that ranges and whole numbers can be checked on them; ``with_contract_types`` gives
checked rows the types of the table.
"""

from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import Feature

_TRUE = ("true", "t", "yes", "y", "on", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "off", "0", "0.0")

_EXPECTED = {
    "boolean": "neither true nor false",
    "date": "no ISO 8601 date such as 2026-01-31",
    "timestamp": "no ISO 8601 time of the years 1 to 9999",
}

NO_TIME = _EXPECTED["timestamp"]


def blank(raw: "pd.Series[Any]") -> "pd.Series[bool]":
    """Which values are missing: null, or text of nothing but spaces."""
    if raw.dtype.kind in "biufM":
        return raw.isna()
    return raw.isna() | (raw.astype("string").str.strip() == "").fillna(value=True)


def read_feature(
    raw: "pd.Series[Any]", feature: Feature, date_format: str | None = None
) -> "pd.Series[Any]":
    """Read a column of a feature; missing where nothing could be read."""
    present = raw.mask(blank(raw))
    if feature.is_time:
        times = read_times(present, date_format)
        if feature.type == "date":
            times = times.where(times == times.dt.normalize())
        return times
    if feature.type == "boolean":
        return _read_booleans(present)
    if feature.type == "category":
        return read_discrete(present, has_integers=feature.has_integer_categories)
    return read_numbers(present)


def expected(feature: Feature, date_format: str | None = None) -> str:
    """What a value that could not be read is not, as the beginning of a reason."""
    if feature.type == "category" and feature.has_integer_categories:
        return "not a whole number"
    if feature.is_time and date_format is not None:
        return f"does not have the format {date_format}"
    return _EXPECTED.get(feature.type, "not a number")


def read_numbers(present: "pd.Series[Any]") -> "pd.Series[Any]":
    """Read numbers as float64."""
    return pd.to_numeric(present, errors="coerce").astype(np.float64)


def read_discrete(present: "pd.Series[Any]", *, has_integers: bool) -> "pd.Series[Any]":
    """Read categories or classes: whole numbers as Int64, anything else as text."""
    if has_integers:
        numbers = read_numbers(present)
        is_whole = (numbers == np.trunc(numbers)) & (numbers.abs() < 2.0**53)
        return numbers.where(is_whole).astype("Int64")
    if present.dtype.kind == "f":
        # A whole number that a gap in its column has made a float is written as one.
        whole = present.dropna()
        if (whole == np.trunc(whole)).all() and (whole.abs() < 2.0**53).all():
            present = present.astype("Int64")
    text = present.astype("string")
    return text.astype(object).where(text.notna(), None)


def read_times(present: "pd.Series[Any]", date_format: str | None = None) -> "pd.Series[Any]":
    """Read times as UTC without a zone, missing where there is none."""
    text = present.astype("string")
    if date_format is not None and present.dtype.kind != "M":
        times = pd.to_datetime(text, errors="coerce", format=date_format, utc=True)
    else:
        # pandas also knows "now"; a finer fraction than Postgres keeps would narrow the years.
        text = text.where(text.str.match(r"\s*[0-9]{4}")).str.replace(
            r"(\.[0-9]{6})[0-9]+", r"\1", regex=True
        )
        times = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)
    naive = times.dt.tz_localize(None)
    return naive.where(naive.dt.year.between(1, 9999))


def read_rows(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Read all rows of text, none of which may be wrong.

    Raises:
        ValueError: A value cannot be read, or is missing where it may not be.
    """
    columns = {}
    for name in contract.columns:
        raw, feature = rows[name], contract.features.get(name)
        if feature is not None:
            columns[name], wanted = read_feature(raw, feature), expected(feature)
        elif contract.target.has_text_classes:
            columns[name], wanted = read_discrete(raw.mask(blank(raw)), has_integers=False), ""
        else:
            columns[name], wanted = read_numbers(raw.mask(blank(raw))), "not a number"
        is_optional = feature is not None and feature.is_optional
        unread = columns[name].isna() & ~(blank(raw) & is_optional)
        if unread.any():
            row = int(np.argmax(unread.to_numpy()))
            what = "is missing" if blank(raw).iloc[row] else f"{wanted}: {raw.iloc[row]!r}"
            raise ValueError(f"row {row + 1}: {name}: {what}")
    return with_contract_types(pd.DataFrame(columns), contract)


def with_contract_types(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Give checked rows the types of the contract; the same values always get the same ones."""
    typed = {name: _typed(rows[name], one) for name, one in contract.features.items()}
    target = contract.target
    if target.column in rows:
        column = rows[target.column]
        if target.has_text_classes:
            typed[target.column] = column.astype("str")
        elif target.classes:
            typed[target.column] = column.astype("int64")
        else:
            typed[target.column] = column.astype("float64")
    given = rows.copy()
    # One by one, since a column may be called like an argument of pandas' functions.
    for name, column in typed.items():
        given[name] = column
    return given


def _typed(column: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    match feature.type:
        case "float" | "decimal":
            return column.astype("float64")
        case "integer":
            return column.astype("Int64") if feature.is_optional else column.astype("int64")
        case "boolean":
            return column.astype("boolean") if feature.is_optional else column.astype("bool")
        case "category" if feature.has_integer_categories:
            return column.astype("Int64") if feature.is_optional else column.astype("int64")
        case "category":
            return column.astype("str")
        case _:
            times = pd.to_datetime(column, utc=True) if column.dtype.kind != "M" else column
            naive = times.dt.tz_convert(None) if times.dt.tz is not None else times
            return naive.astype("datetime64[us]")


def _read_booleans(present: "pd.Series[Any]") -> "pd.Series[Any]":
    if present.dtype.kind == "b":
        return present.astype("boolean")
    words = present.astype("string").str.strip().str.lower()
    known = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
    return words.map(known).astype("boolean")
