"""From values of a contract to the one matrix of numbers that its model takes.

The encoding follows from the contract alone:

- a number is itself, a boolean 0 or 1,
- a category is its place in the contract's list; one that is not listed is -1; where missing is a
  category of its own, it has the place after the last,
- a date or time is its parts, one matrix column each,
- anything else that is missing is NaN, which the model itself replaces by what it has learned.

A contract of plain numbers is encoded as it is: one column a feature, unchanged.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.model import Contract, DatePart, Feature, Target
from mlops_for_mle.contract.rules import Column, read_time

UNKNOWN_CODE = -1.0

Matrix = npt.NDArray[np.float64]
ColumnKind = Literal["number", "boolean", "category", "part"]

_THURSDAY = 4  # 1970-01-01


class EncodedColumn(NamedTuple):
    """One column of the matrix.

    Attributes:
        name: The feature's name; with the part behind it where there are several.
        source: The feature that it is made of.
        kind: What it holds.
        part: Which part of a date or time; None for other kinds.
    """

    name: str
    source: str
    kind: ColumnKind
    part: DatePart | None = None


def is_plain(contract: Contract) -> bool:
    """Whether the matrix is the features themselves, none of which may be missing."""
    return all(one.is_number and not one.is_optional for one in contract.features.values())


def encode(columns: Mapping[str, Sequence[Any] | Column], contract: Contract) -> Matrix:
    """Encode columns of allowed values, one of each feature.

    Args:
        columns: Plain values, or arrays as ``rules.is_allowed`` has them.
        contract: Whose encoding.

    Returns:
        Shape (rows, encoded columns).
    """
    encoded: list[Column] = []
    for name, feature in contract.features.items():
        values = columns[name]
        if feature.is_time:
            times = read_times(values)
            encoded.extend(_part(times, part) for part in feature.date_parts)
        elif feature.type == "category":
            codes = category_codes(feature)
            encoded.append(np.array([codes.get(one, UNKNOWN_CODE) for one in values], np.float64))
        else:
            # NumPy makes NaN of None.
            encoded.append(np.asarray(values, np.float64))
    return np.stack(encoded, axis=1)


def encode_target(values: Sequence[Any] | Column, target: Target) -> Column:
    """What the model is to answer for values of the table: class codes (int64), or float64."""
    if target.task == "regression":
        return np.asarray(values, np.float64)
    return np.array([target.codes[one] for one in values], np.int64)


def encoded_columns(contract: Contract) -> tuple[EncodedColumn, ...]:
    """The columns of the matrix, in their order."""
    columns: list[EncodedColumn] = []
    taken = set(contract.features)
    for source, feature in contract.features.items():
        if not feature.is_time:
            kind: ColumnKind = "number"
            if feature.type in ("boolean", "category"):
                kind = feature.type
            columns.append(EncodedColumn(source, source, kind))
        for part in feature.date_parts:
            name = f"{source}.{part}"
            while name in taken:
                name += "_"
            taken.add(name)
            columns.append(EncodedColumn(name, source, "part", part))
    return tuple(columns)


def possible_codes(column: EncodedColumn, feature: Feature) -> tuple[float, ...]:
    """All values that a column of categories or booleans can have, NaN aside."""
    if column.kind == "boolean":
        return (0.0, 1.0)
    known = len(feature.categories) + (feature.missing == "separate")
    unknown = [UNKNOWN_CODE] if feature.unknown == "other" else []
    return (*map(float, range(known)), *unknown)


def category_codes(feature: Feature) -> dict[Any, float]:
    """The code of each known category, and under None that of a missing one."""
    codes: dict[Any, float] = {value: float(code) for value, code in feature.category_codes.items()}
    is_separate = feature.missing == "separate"
    return codes | {None: float(len(feature.categories)) if is_separate else float("nan")}


def read_times(values: Sequence[Any] | Column) -> Column:
    """Dates or times as datetime64 in UTC, NaT where there is none.

    Args:
        values: datetime64 as it is; text in ISO 8601, dates, times and None are read.

    Raises:
        ValueError: A value is no date or time.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return values
    times = [None if one is None else read_time(one) for one in values]
    return np.array(times, "datetime64[us]")


def _part(times: Column, part: DatePart) -> Column:
    days = times.astype("datetime64[D]")
    match part:
        case "days_since_1970":
            values = days.astype(np.int64)
        case "day_of_week":
            values = (days.astype(np.int64) + _THURSDAY - 1) % 7 + 1
        case "day":
            first = times.astype("datetime64[M]").astype("datetime64[D]")
            values = (days - first).astype(np.int64) + 1
        case "month":
            values = times.astype("datetime64[M]").astype(np.int64) % 12 + 1
        case "year":
            values = times.astype("datetime64[Y]").astype(np.int64) + 1970
        case "hour":
            values = (times - days).astype("timedelta64[h]").astype(np.int64)
    return np.where(np.isnat(times), np.nan, values.astype(np.float64))
