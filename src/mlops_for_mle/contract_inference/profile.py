"""Says what each column of a source holds."""

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract_inference.column import Column, count, or_leave_out
from mlops_for_mle.contract_inference.text_columns import profile_text

_NUMBER_CLASSES = {int, float, Decimal, np.int64, np.float64}
_SPREADSHEET_CLASSES = {str, bool, *_NUMBER_CLASSES}


def profile(rows: pd.DataFrame) -> list[Column]:
    """Profile every column.

    Args:
        rows: At least one row; text or typed values; column names are distinct.
    """
    return [profile_column(str(name), rows[name]) for name in rows.columns]


def profile_column(name: str, raw: "pd.Series[Any]", find_booleans: bool = True) -> Column:
    """Say what a column holds.

    Args:
        name: Its name in the source.
        raw: Its values, text or typed.
        find_booleans: Whether the words true and false are booleans rather than text.
    """
    raw = raw.reset_index(drop=True)
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    kinds = pd.api.types
    if kinds.is_bool_dtype(raw.dtype):
        return Column(name, "boolean", raw.astype("boolean"))
    if kinds.is_integer_dtype(raw.dtype):
        return _whole_numbers(name, raw)
    if kinds.is_float_dtype(raw.dtype):
        return _floats(name, raw.astype(np.float64))
    if kinds.is_datetime64_any_dtype(raw.dtype):
        return _times(name, _without_zone(raw))
    if kinds.is_string_dtype(raw.dtype) or raw.dtype == object:
        return _objects(name, raw, find_booleans)
    return Column(name, "other", raw)


def _whole_numbers(name: str, raw: "pd.Series[Any]") -> Column:
    numbers = raw.astype("Float64").astype(np.float64)
    if (numbers.abs() >= 2.0**53).any():
        return Column(name, "text", raw.astype("string").astype(object).where(raw.notna()))
    return Column(name, "integer", numbers)


def _floats(name: str, numbers: "pd.Series[Any]") -> Column:
    present = numbers.dropna()
    if present.empty:
        return Column(name, "empty", numbers)
    infinite = int(np.isinf(present).sum())
    if infinite:
        return Column(
            name,
            "float",
            numbers,
            f"Column {name!r} is infinite in {count(infinite, 'row')}: put finite or missing "
            f"values in their place{or_leave_out(name)}",
        )
    # Where whole numbers have gaps, pandas makes them floats.
    is_whole = len(present) < len(numbers) and bool((present == np.trunc(present)).all())
    return Column(name, "integer" if is_whole else "float", numbers)


def _times(name: str, times: "pd.Series[Any]") -> Column:
    """Times that are all midnight are dates, which pandas has no type for."""
    present = times.dropna()
    if present.empty:
        return Column(name, "empty", times)
    return Column(name, "date" if (present == present.dt.normalize()).all() else "timestamp", times)


def _without_zone(times: "pd.Series[Any]") -> "pd.Series[Any]":
    if times.dt.tz is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return times


def _objects(name: str, raw: "pd.Series[Any]", find_booleans: bool) -> Column:
    """Profile Python objects by their classes; text is looked into."""
    is_blank = raw.isna() | (raw.astype(str).str.strip() == "")
    values = raw.astype(object).mask(is_blank, None)
    classes = set(values.dropna().map(type))
    if not classes:
        return Column(name, "empty", values)
    if str in classes and classes <= _SPREADSHEET_CLASSES:
        # Numbers beside text come out of spreadsheets: as they would stand in a CSV file.
        text = values.where(values.isna(), values.astype(str))
        return profile_text(name, text, find_booleans)
    return _typed_objects(name, values, classes)


def _typed_objects(name: str, values: "pd.Series[Any]", classes: set[type]) -> Column:
    if classes == {bool}:
        return Column(name, "boolean", values.astype("boolean"))
    if classes == {Decimal}:
        numbers = values.map(float, na_action="ignore").astype(np.float64)
        return Column(name, "decimal", numbers)
    if classes <= _NUMBER_CLASSES:
        return _floats(name, values.map(float, na_action="ignore").astype(np.float64))
    if classes == {datetime.date}:
        return Column(name, "date", pd.to_datetime(values))
    if classes <= {datetime.datetime, pd.Timestamp}:
        return _times(name, _without_zone(pd.to_datetime(values, utc=True)))
    return Column(name, "other", values)
