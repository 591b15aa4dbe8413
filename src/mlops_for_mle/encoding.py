"""From raw values of a contract to the one matrix of numbers that its model takes.

This module is all that knows the encoding, which
follows from the contract alone:

- a number is itself, a boolean 0 or 1,
- a category is its place in the contract's list; one that is not listed is -1; where missing is a
  category of its own, it has the place after the last,
- a date or time is its parts, one matrix column each,
- anything else that is missing is NaN, which the model itself replaces by what it has learned.

Plain values are those of JSON: numbers, booleans, text, None; dates and times as ISO 8601. A
contract of plain numbers is encoded as it is: one column a feature, unchanged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import DatePart, Feature

UNKNOWN_CODE = -1.0

Matrix = npt.NDArray[np.float64]
ColumnKind = Literal["number", "boolean", "category", "part"]

_EPOCH = date(1970, 1, 1).toordinal()
_NAN = float("nan")


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


class Encoding:
    """How the rows of one contract become a matrix.

    Attributes:
        columns: The columns of the matrix, in their order.
        names: Their names.
        is_identity: Whether the matrix is the features themselves, none of which may be missing.
    """

    def __init__(self, contract: Contract) -> None:
        """Derive the encoding; prefer ``encoding_of``, which does so once for a contract."""
        self._features = contract.features
        self.columns = _columns(contract.features)
        self.names = tuple(column.name for column in self.columns)
        self.is_identity = all(
            one.is_number and not one.is_optional for one in contract.features.values()
        )
        self._single = [_encoder(one) for one in contract.features.values()]

    @property
    def width(self) -> int:
        """How many columns the matrix has."""
        return len(self.columns)

    def describe(self) -> dict[str, str]:
        """What each column of the matrix holds, in words, for people who call the model itself."""
        return {one.name: _describe(one, self._features[one.source]) for one in self.columns}

    def codes(self, column: EncodedColumn) -> tuple[float, ...]:
        """All values that a column of categories or booleans can have, NaN aside."""
        feature = self._features[column.source]
        if column.kind == "boolean":
            return (0.0, 1.0)
        known = len(feature.categories) + (feature.missing == "separate")
        unknown = [UNKNOWN_CODE] if feature.unknown == "other" else []
        return (*map(float, range(known)), *unknown)

    def row(self, values: Iterable[Any]) -> list[float]:
        """Encode the plain values of one row, in the order of the contract's features."""
        encoded: list[float] = []
        for encode, value in zip(self._single, values, strict=True):
            encode(value, encoded)
        return encoded

    def rows(self, rows: Sequence[Iterable[Any]]) -> Matrix:
        """Encode rows of plain values."""
        if self.is_identity:
            flat = chain.from_iterable(rows)
            return np.fromiter(flat, np.float64).reshape(len(rows), self.width)
        return np.array([self.row(row) for row in rows], np.float64).reshape(-1, self.width)

    def by_columns(self, columns: Mapping[str, Sequence[Any]]) -> Matrix:
        """Encode columns of plain values, one of each feature."""
        parts: list[Any] = []
        for name, feature in self._features.items():
            values = columns[name]
            if feature.is_time:
                times = [None if one is None else read_time(one) for one in values]
                parts.extend(
                    [_NAN if one is None else _part(one, part) for one in times]
                    for part in feature.date_parts
                )
            elif feature.type == "category":
                codes = codes_of(feature)
                parts.append([codes.get(one, UNKNOWN_CODE) for one in values])
            else:
                # NumPy makes NaN of None.
                parts.append(values)
        return np.array([np.array(part, np.float64) for part in parts]).T


@lru_cache(maxsize=16)
def _encoding_of(raw: str) -> Encoding:
    return Encoding(Contract.model_validate_json(raw))


def encoding_of(contract: Contract) -> Encoding:
    """The encoding of a contract, derived once."""
    return _encoding_of(contract.model_dump_json())


def read_time(value: Any) -> datetime:
    """A date or time in UTC and without an offset.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            raise ValueError("is no date or time") from None
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        except OverflowError:
            raise ValueError("is no date or time") from None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  (the table has none)
    raise ValueError("is no date or time")


def _columns(features: Mapping[str, Feature]) -> tuple[EncodedColumn, ...]:
    columns: list[EncodedColumn] = []
    taken = set(features)
    for source, feature in features.items():
        if feature.is_time:
            for part in feature.date_parts:
                name = f"{source}.{part}"
                while name in taken:
                    name += "_"
                taken.add(name)
                columns.append(EncodedColumn(name, source, "part", part))
            continue
        kind: ColumnKind = "number"
        if feature.type in ("boolean", "category"):
            kind = feature.type
        columns.append(EncodedColumn(source, source, kind))
    return tuple(columns)


def _encoder(feature: Feature) -> Callable[[Any, list[float]], None]:
    """A function that appends the encoded form of one plain value to a list."""
    if feature.is_time:
        parts = feature.date_parts

        def encode_time(value: Any, row: list[float]) -> None:
            if value is None:
                row.extend([_NAN] * len(parts))
                return
            time = read_time(value)
            row.extend([_part(time, part) for part in parts])

        return encode_time
    if feature.type == "category":
        codes = codes_of(feature)

        def encode_category(value: Any, row: list[float]) -> None:
            row.append(codes.get(value, UNKNOWN_CODE))

        return encode_category

    def encode_number(value: Any, row: list[float]) -> None:
        row.append(_NAN if value is None else float(value))

    return encode_number


def codes_of(feature: Feature) -> dict[Any, float]:
    """The code of each known category, and under None that of a missing one."""
    codes: dict[Any, float] = {value: float(code) for value, code in feature.category_codes.items()}
    codes[None] = float(len(feature.categories)) if feature.missing == "separate" else _NAN
    return codes


def _part(time: datetime, part: DatePart) -> float:
    match part:
        case "days_since_1970":
            return float(time.toordinal() - _EPOCH)
        case "day_of_week":
            return float(time.isoweekday())
        case _:
            return float(getattr(time, part))


def _describe(column: EncodedColumn, feature: Feature) -> str:
    missing = "; NaN where it is missing" if feature.is_optional else ""
    if column.kind == "category":
        named = ", ".join(f"{code} {value}" for value, code in feature.category_codes.items())
        unknown = f", {UNKNOWN_CODE:g} any other" if feature.unknown == "other" else ""
        if feature.missing == "separate":
            missing = f", {len(feature.categories)} missing"
        return f"{column.source} as a code: {named}{unknown}{missing}"
    if column.kind == "boolean":
        return f"{column.source}: 0 false, 1 true{missing}"
    if column.part is not None:
        return f"{column.part} of {column.source}, in UTC{missing}"
    return f"{column.source}{missing}"
