"""Columns of a source, text or typed, read as what a contract says they hold.

Files, tables and messages all come through here, so the same row always gives the same values,
the same faults and the same model input.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract.encoding import Matrix, encode
from mlops_for_mle.contract.model import EXACT_BELOW, Contract, Feature
from mlops_for_mle.contract.notation import (
    Notation,
    NumberFormat,
    is_blank,
    read_numbers,
    read_times,
)
from mlops_for_mle.contract.rules import Column, Precision, describe, fault, is_allowed

_TRUE = ("true", "t", "yes", "y", "on", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "off", "0", "0.0")
_LONGEST_SHOWN = 80


def check_columns(
    rows: pd.DataFrame,
    features: Mapping[str, Feature],
    notation: Notation | None = None,
    precision: Precision = "float64",
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read columns and find the rows that do not fit.

    Args:
        rows: Has a column for each feature, as read.
        features: What each column may hold, by its name.
        notation: How they are written where they are text.
        precision: Of the model that is to take them.

    Returns:
        The columns with their types (see ``typed_columns``), in rows that fit; and for the position
        of each row that does not its faults, in one sentence.
    """
    rows, notation = rows.copy(deep=False), notation or Notation()
    for name in features.keys() & notation.missing_marks:
        rows[name] = rows[name].mask(rows[name].isin(notation.missing_marks[name]))
    for name in features.keys() & {*notation.ignore_case}:
        rows[name] = _in_known_case(rows[name], features[name])
    read = {
        name: read_column(
            rows[name], feature, notation.date_formats.get(name), notation.number_format(name)
        )
        for name, feature in features.items()
    }
    faults: dict[int, list[str]] = {}
    for name, feature in features.items():
        wrong = ~is_allowed(to_array(read[name], feature), feature, precision)
        is_unread = (read[name].isna() & ~is_blank(rows[name])).to_numpy()
        for position in np.flatnonzero(wrong | is_unread).tolist():
            raw, value = rows[name].iloc[position], read[name].iloc[position]
            form = notation.date_formats.get(name)
            if is_unread[position] and feature.is_time and form is not None:
                reason = f"does not have the format {form}"
            else:
                plain = str(raw) if is_unread[position] else _plain_value(value, feature)
                reason = fault(plain, feature, precision) or "cannot be read"
            shown = "" if reason == "is missing" else f", found {_shown(raw)}"
            told = f"{name}: {reason}{shown}; allowed is {describe(feature)}"
            faults.setdefault(position, []).append(told)
    kept = np.delete(np.arange(len(rows)), list(faults))
    fitting = pd.concat(read, axis="columns").iloc[kept].reset_index(drop=True)
    return typed_columns(fitting, features), {
        position: ". ".join(faults[position]) for position in sorted(faults)
    }


def read_column(
    raw: "pd.Series[Any]",
    feature: Feature,
    date_format: str | None = None,
    number_format: NumberFormat | None = None,
) -> "pd.Series[Any]":
    """Read a column; missing where it is blank or could not be read.

    Numbers come as float64, so that ranges and whole numbers can be checked on them.
    """
    present = raw.mask(is_blank(raw))
    if feature.is_time:
        return read_times(present, date_format)
    if feature.type == "boolean":
        return _read_booleans(present)
    if feature.type == "category" and not feature.has_integer_categories:
        return _read_text(present)
    numbers = read_numbers(present, number_format)
    if feature.type == "category":
        is_whole = (numbers == np.trunc(numbers)) & (numbers.abs() < EXACT_BELOW)
        return numbers.where(is_whole).astype("Int64")
    return numbers


def typed_columns(rows: pd.DataFrame, features: Mapping[str, Feature]) -> pd.DataFrame:
    """Give checked columns the types of the table; the same values always get the same ones."""
    given = rows.copy()
    typed: pd.Series[Any]
    # One by one, since a column may be called like an argument of pandas' functions.
    for name, feature in features.items():
        column = rows[name]
        if feature.type in ("float", "decimal"):
            typed = column.astype(np.float64)
        elif feature.type == "boolean":
            typed = column.astype("boolean" if feature.is_optional else "bool")
        elif feature.is_time:
            typed = pd.Series(to_array(column, feature), column.index).astype("datetime64[us]")
        elif feature.type == "category" and not feature.has_integer_categories:
            typed = column.astype("str")
        else:
            typed = column.astype("Int64" if feature.is_optional else "int64")
        given[name] = typed
    return given


def to_array(column: "pd.Series[Any]", feature: Feature) -> Column:
    """A column as ``rules`` and ``encoding`` take it."""
    if feature.is_number:
        return np.asarray(pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan))
    if feature.is_time:
        times = pd.to_datetime(column)
        return (times.dt.tz_convert(None) if times.dt.tz is not None else times).to_numpy()
    objects = column.astype(object)
    return objects.where(objects.notna(), None).to_numpy()


def encode_rows(rows: pd.DataFrame, contract: Contract) -> Matrix:
    """The model's matrix of rows that fit; shape (rows, encoded columns)."""
    features = contract.features
    return encode({name: to_array(rows[name], one) for name, one in features.items()}, contract)


def plain_column(column: "pd.Series[Any]", feature: Feature) -> list[Any]:
    """A feature's column as plain values."""
    return [_plain_value(one, feature) for one in column]


def plain_rows(rows: pd.DataFrame, contract: Contract) -> list[list[Any]]:
    """The features of a frame as plain values, row by row."""
    columns = [plain_column(rows[name], one) for name, one in contract.features.items()]
    return list(map(list, zip(*columns, strict=True)))


def frame_digest(frame: pd.DataFrame) -> str:
    """SHA-256 over a frame's column names, types and values, in hexadecimal.

    Row order counts, the index does not. Missing values in text columns count as such.
    """
    result = hashlib.sha256()
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        values = column.to_numpy()
        is_fixed = values.dtype.kind in "biufM"
        result.update(f"{name}\x00{values.dtype if is_fixed else 'text'}\x00".encode())
        if is_fixed:
            result.update(np.ascontiguousarray(values).tobytes())
            continue
        for value, missing in zip(values, column.isna().to_numpy(), strict=True):
            result.update(b"\x01" if missing else b"\x02" + str(value).encode() + b"\x00")
    return result.hexdigest()


def _read_booleans(present: "pd.Series[Any]") -> "pd.Series[Any]":
    if present.dtype.kind == "b":
        return present.astype("boolean")
    words = present.astype("string").str.strip().str.lower()
    known = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
    return words.map(known).astype("boolean")


def _read_text(present: "pd.Series[Any]") -> "pd.Series[Any]":
    if present.dtype.kind == "f":
        # A whole number that a gap in its column has made a float is written as one.
        whole = present.dropna()
        if (whole == np.trunc(whole)).all() and (whole.abs() < EXACT_BELOW).all():
            present = present.astype("Int64")
    text = present.astype("string").str.strip().astype(object)
    return text.where(text.notna(), None)


def _in_known_case(raw: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    """Text that differs from a category only by case, as that category."""
    known = {str(one).casefold(): one for one in feature.categories}
    return raw.map(lambda one: known.get(one.casefold(), one), na_action="ignore")


def _plain_value(value: Any, feature: Feature) -> Any:
    if pd.isna(value):
        return None
    if feature.is_time:
        time = pd.Timestamp(value)
        is_midnight = feature.type == "date" and time == time.normalize()
        return time.date().isoformat() if is_midnight else time.isoformat()
    plain: Callable[[Any], Any] = float
    if feature.type == "boolean":
        plain = bool
    elif feature.type == "category":
        plain = int if feature.has_integer_categories else str
    elif feature.type == "integer" and float(value).is_integer():
        plain = int
    return plain(value)


def _shown(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
