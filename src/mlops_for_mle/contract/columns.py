"""Columns of a source, text or typed, read as what a contract says they hold.

Files, tables and messages all come through here, so the same row always gives the same values,
the same faults and the same model input. (The API takes JSON, see ``rules.json_type``.)
"""

import hashlib
import json
import math
import reprlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract.encoding import Encoder, Matrix, encoded_columns
from mlops_for_mle.contract.model import EXACT_BELOW, Contract, Feature, Target
from mlops_for_mle.contract.notation import Notation, NumberFormat, Series, mask_missing, read_times
from mlops_for_mle.contract.rules import Column, describe, fault, is_allowed

if TYPE_CHECKING:
    import pyarrow as pa

_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "0.0"), False),
}
_MAX_SHOWN = 80
_MAX_LEVELS = 50


def check_columns(
    rows: pd.DataFrame, features: Mapping[str, Feature], notation: Notation | None = None
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read the column of each feature in its notation, and find the rows that do not fit.

    Returns:
        The rows that fit, in the types of the table; and the faults of each row that does not, in
        one sentence, by its position.
    """
    notation = notation or Notation()
    faults: dict[int, list[str]] = {}
    columns = {}
    for name, feature in features.items():
        marks = notation.missing_marks.get(name, ())
        raw = mask_missing(rows[name], _missing_texts(marks, feature))
        if name in notation.ignore_case:
            raw = _in_known_case(raw, feature)
        date_format = notation.date_formats.get(name)
        number_format = notation.number_formats.get(name)
        column = read_column(raw, feature, date_format, number_format)
        if marks:
            is_marked = column.isin(typed_marks(marks, feature))
            raw, column = raw.mask(is_marked), column.mask(is_marked)
        columns[name] = column
        is_unread = (column.isna() & raw.notna()).to_numpy()
        wrong = np.flatnonzero(is_unread | ~is_allowed(to_array(column, feature), feature))
        values = plain_column(column.iloc[wrong], feature)
        for position, raw_value, value in zip(
            wrong.tolist(), raw.iloc[wrong].tolist(), values, strict=True
        ):
            if is_unread[position] and feature.is_time and date_format is not None:
                reason = f"does not have the format {date_format}"
            else:
                checked = str(raw_value) if is_unread[position] else value
                reason = fault(checked, feature) or "cannot be read"
            suffix = "" if reason == "is missing" else f", found {repr(raw_value)[:_MAX_SHOWN]}"
            message = f"{name}: {reason}{suffix}; allowed is {describe(feature)}"
            faults.setdefault(position, []).append(message)
    fitting_positions = np.delete(np.arange(len(rows)), list(faults))
    fitting = pd.concat(columns, axis="columns").iloc[fitting_positions].reset_index(drop=True)
    typed = fitting.astype({name: _type_of(feature) for name, feature in features.items()})
    return typed, {position: ". ".join(faults[position]) for position in sorted(faults)}


def to_frame(table: "pa.Table") -> pd.DataFrame:
    """A table of Arrow; as floats, whole numbers with gaps would not all be kept."""
    import pyarrow as pa

    types: dict[Any, Any] = dict.fromkeys(table.schema.types)
    types |= dict.fromkeys(filter(pa.types.is_integer, types), pd.Int64Dtype())
    types |= {pa.uint64(): pd.UInt64Dtype(), pa.bool_(): pd.BooleanDtype()}
    options = {"ignore_metadata": True, "date_as_object": False}
    return pd.DataFrame(table.to_pandas(**options, types_mapper=types.get))


def read_column(
    raw: Series,
    feature: Feature,
    date_format: str | None = None,
    number_format: NumberFormat | None = None,
) -> Series:
    """Read a column as ``mask_missing`` gives it; missing where it could not be read.

    Numbers come as float64, so that ranges and whole numbers can be checked on them.
    """
    if feature.is_time:
        return read_times(raw, date_format)
    if feature.type == "boolean":
        if raw.dtype.kind == "b":
            return raw.astype("boolean")
        words = raw.astype("string").str.strip().str.lower()
        return words.map(_BOOLEANS).astype("boolean")
    if feature.is_text:
        # Whole numbers beside a missing value come as floats, but are written without a fraction.
        if raw.dtype.kind == "f" and is_exact(raw.dropna()).all():
            raw = raw.astype("Int64")
        return _objects(raw.astype("string").str.strip())
    is_typed = raw.dtype.kind in "biuf" or pd.api.types.infer_dtype(raw) == "decimal"
    if number_format is not None and not is_typed:
        numbers = number_format.read(raw)
    else:
        numbers = pd.to_numeric(raw, errors="coerce").astype(np.float64)
        is_unread = numbers.isna() & raw.notna()
        if is_unread.any() and not is_typed:
            numbers = numbers.where(~is_unread, NumberFormat().read(raw.where(is_unread)))
    return numbers.where(is_exact(numbers)).astype("Int64") if feature.categories else numbers


def typed_marks(marks: Collection[str], feature: Feature) -> Series:
    """The marks of missing values, as ``read_column`` gives them; 0 and 1 are no flags."""
    texts = () if feature.type == "boolean" else marks
    return read_column(pd.Series([*texts], dtype=object), feature).dropna()


def is_missing(values: Series, marks: Collection[str], feature: Feature) -> "pd.Series[bool]":
    """Which values are none, or marks that stand for none."""
    given = mask_missing(values, _missing_texts(marks, feature))
    return given.isna() | read_column(given, feature).isin(typed_marks(marks, feature))


def is_exact(numbers: "pd.Series[float]") -> "pd.Series[bool]":
    """Which are whole numbers that a float64 keeps exactly."""
    return (numbers == np.trunc(numbers)) & (numbers.abs() < EXACT_BELOW)


def to_array(column: Series, feature: Feature) -> Column:
    """A column as ``rules`` and ``encoding`` take it."""
    if feature.is_number:
        return np.asarray(pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan))
    if feature.is_time:
        return pd.to_datetime(column, utc=True).dt.tz_convert(None).to_numpy()
    return _objects(column).to_numpy()


def encode_rows(rows: pd.DataFrame, contract: Contract) -> Matrix:
    """The model's matrix of rows that fit; shape (rows, encoded columns)."""
    columns = (to_array(rows[name], feature) for name, feature in contract.features.items())
    return Encoder(contract)(columns)


def encode_target(rows: pd.DataFrame, target: Target) -> Column:
    """What the model is to answer for rows that fit: class codes (int64), or float64."""
    values = rows[target.column]
    if target.classes:
        return np.array([target.codes[value] for value in values.to_numpy()], np.int64)
    return to_array(values, target.feature)


def encode_examples(rows: pd.DataFrame, contract: Contract) -> tuple[pd.DataFrame, Column]:
    """What a model learns from: the matrix under the names of its columns, and the target."""
    names = [column.name for column in encoded_columns(contract)]
    features = pd.DataFrame(encode_rows(rows, contract), columns=names)
    return features, encode_target(rows, contract.target)


def plain_column(column: Series, feature: Feature) -> list[Any]:
    """A column of the table's type as plain values; dates and times in ISO 8601."""
    values: list[Any] = _objects(column).tolist()
    if feature.is_time:
        values = [None if value is None else value.isoformat() for value in values]
    if feature.type == "date":
        values = [None if value is None else value.removesuffix("T00:00:00") for value in values]
    return values


def plain_rows(rows: pd.DataFrame, contract: Contract) -> list[list[Any]]:
    """The features of a frame as plain values, row by row."""
    columns = [plain_column(rows[name], feature) for name, feature in contract.features.items()]
    return list(map(list, zip(*columns, strict=True)))


def as_json(value: Any) -> str:
    """A value as JSON that ``jsonb`` takes, see ``plain``."""
    return json.dumps(plain(value), ensure_ascii=False)


def plain(value: Any, levels: int = _MAX_LEVELS) -> Any:
    """A value in the types that JSON and ``jsonb`` have; of any other type, its text.

    What is nested deeper than ``levels`` becomes text too, shortened.
    """
    if isinstance(value, dict | list | tuple) and not levels:
        return reprlib.repr(value)
    if isinstance(value, dict):
        return {plain(str(name)): plain(item, levels - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, levels - 1) for item in value]
    if isinstance(value, str):
        return value.replace("\x00", "�").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, int) else str(value)


def frame_digest(frame: pd.DataFrame) -> str:
    """SHA-256 over a frame's column names, types and values, in hexadecimal.

    Row order counts, the index does not. Missing values in text columns count as such.
    """
    # Not pandas' hashes: when a new version changes them, known rows would be taken for new ones.
    result = hashlib.sha256()
    for name, column in frame.items():
        values, type_name = column.to_numpy(), "text"
        if values.dtype.kind in "biufM":
            content, type_name = values.tobytes(), str(values.dtype)
        else:
            content = json.dumps(_objects(column).tolist(), default=str).encode()
        result.update(f"{name}\x00{type_name}\x00".encode() + content)
    return result.hexdigest()


def _missing_texts(marks: Collection[str], feature: Feature) -> tuple[str, ...]:
    """The marks, and NaN as Postgres writes one of numeric; other NaN are missing anyway."""
    return (*marks, "NaN") if feature.is_number else tuple(marks)


def _objects(column: Series) -> Series:
    """The values as Python's own, None for a missing one."""
    return column.astype(object).where(column.notna(), None)


def _type_of(feature: Feature) -> str:
    if feature.is_time:
        return "datetime64[us]"
    if feature.type in ("float", "decimal"):
        return "float64"
    if feature.type == "boolean":
        return "boolean" if feature.is_optional else "bool"
    if feature.is_text:
        return "str"
    return "Int64" if feature.is_optional else "int64"


def _in_known_case(raw: Series, feature: Feature) -> Series:
    categories = {str(category).casefold(): category for category in feature.categories}
    return raw.map(lambda value: categories.get(str(value).casefold(), value), na_action="ignore")
