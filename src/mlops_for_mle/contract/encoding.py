"""From values of a contract to the one matrix of numbers that its model takes.

The encoding follows from the contract alone, see docs/decisions/0010-one-matrix.md. A contract of
plain numbers is encoded as it is: one column a feature, unchanged.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.model import Contract, Feature, FeatureType
from mlops_for_mle.contract.rules import Column, Precision, read_time

Matrix = npt.NDArray[np.float64] | npt.NDArray[np.float32]
Values = Sequence[Any] | Column

_UNKNOWN_CODE = -1.0
# With so few values, it costs more to find equal ones than to read each.
_FEW = 64
_FIRST_DAY = date(1970, 1, 1).toordinal()


class EncodedColumn(NamedTuple):
    """One column of the matrix and its feature; behind that name stands the part of a time."""

    name: str
    source: str
    part: str | None = None


def is_plain(contract: Contract) -> bool:
    """Whether the matrix is the features themselves, none of which may be missing."""
    features = contract.features.values()
    return all(feature.is_number and not feature.is_optional for feature in features)


class Encoder:
    """Encodes columns of one contract; a single row is columns of one value each."""

    def __init__(self, contract: Contract, precision: Precision = "float64") -> None:
        self._precision: Precision = precision
        self._encoders = {name: _encoder_of(feature) for name, feature in contract.features.items()}

    def __call__(self, columns: Iterable[Values]) -> Matrix:
        """Encode allowed values, a column of each feature; shape (rows, encoded columns).

        They are plain values, or arrays as ``rules.is_allowed`` has them.
        """
        encoded: list[Values] = []
        for encode, values in zip(self._encoders.values(), columns, strict=True):
            encoded += encode(values)
        return np.array(encoded, self._precision).T

    def feature(self, name: str, values: Values) -> Matrix:
        """Encode values of one feature; shape (encoded columns of the feature, rows)."""
        return np.array([self._array(column) for column in self._encoders[name](values)])

    def _array(self, values: Values) -> Column:
        if not isinstance(values, np.ndarray):
            # A third of NumPy's time; what is missing, or no number, cannot be packed.
            with suppress(struct.error):
                packed = struct.pack(f"{len(values)}d", *values)
                return np.frombuffer(packed).astype(self._precision)
        return np.asarray(values, self._precision)


def encoded_columns(contract: Contract) -> tuple[EncodedColumn, ...]:
    """The columns of the matrix, in their order."""
    columns: list[EncodedColumn] = []
    for source, feature in contract.features.items():
        if not feature.is_time:
            columns.append(EncodedColumn(source, source))
        for part in _PARTS.get(feature.type, ()):
            name = f"{source}.{part}"
            while name in contract.features:
                name += "_"
            columns.append(EncodedColumn(name, source, part))
    return tuple(columns)


def possible_codes(feature: Feature) -> tuple[float, ...]:
    """All values that the column of a category or boolean can have, NaN aside."""
    if feature.type == "boolean":
        return (0.0, 1.0)
    known_count = len(feature.categories) + (feature.missing == "separate")
    unknown = [_UNKNOWN_CODE] if feature.unknown == "other" else []
    return (*map(float, range(known_count)), *unknown)


class _Codes(dict[Any, float]):
    def __missing__(self, value: Any) -> float:
        return _UNKNOWN_CODE


def _encoder_of(feature: Feature) -> Callable[[Values], list[Values]]:
    if feature.is_time:
        return partial(_parts, getters=_PARTS[feature.type].values())
    if feature.type == "category":
        missing = len(feature.categories) if feature.missing == "separate" else np.nan
        codes: dict[Any, float] = {**feature.category_codes, None: missing}
        code_of = _Codes(codes).__getitem__
        return lambda values: [list(map(code_of, values))]
    # NumPy makes NaN of None.
    return lambda values: [values]


def _parts(values: Values, getters: Iterable[Callable[[datetime], int]]) -> list[Values]:
    """The parts of dates or times; of many values, most of them equal, each is read once."""
    distinct: Iterable[Any]
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        unique, positions = np.unique(values.astype("datetime64[us]"), return_inverse=True)
        distinct = unique.tolist()
    elif len(values) > _FEW:
        # Each new value gets the next position; any other dictionary takes half as long again.
        distinct = defaultdict[Any, int](count().__next__)
        positions = np.fromiter(map(distinct.__getitem__, values), np.intp, len(values))
    else:
        distinct, positions = values, None
    times = [None if value is None else read_time(value) for value in distinct]
    parts: list[Values] = [
        [None if time is None else get(time) for time in times] for get in getters
    ]
    return parts if positions is None else list(np.array(parts, np.float64)[:, positions])


_DATE_PARTS: Mapping[str, Callable[[datetime], int]] = {
    "days_since_1970": lambda time: time.toordinal() - _FIRST_DAY,
    "month": attrgetter("month"),
    "day": attrgetter("day"),
    "day_of_week": datetime.isoweekday,
}
_PARTS: Mapping[FeatureType, Mapping[str, Callable[[datetime], int]]] = {
    "date": _DATE_PARTS,
    "timestamp": {**_DATE_PARTS, "hour": attrgetter("hour")},
}
