"""Turns rows of raw values into the model's matrix: the one place where scoring does that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.feature_words import describe
from mlops_for_mle.release import Precision
from mlops_for_mle.scoring.feature_limits import FeatureLimits
from mlops_for_mle.value_faults import fault_of

if TYPE_CHECKING:
    import pandas as pd

Matrix = npt.NDArray[np.float64]

_NUMBERS = frozenset({float, int})
# By name, since rows of a table need no pandas.
_MISSING = frozenset({"NAType", "NaTType"})
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that does not fit the contract.

    Attributes:
        position: Where it stood among the rows that were given; 0 is the first.
        reason: What is wrong with it and what is allowed, all faults in one sentence.
    """

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """Rows as the model takes them.

    Attributes:
        values: Shape (accepted rows, columns), as the contract's encoding gives them.
        positions: For each row of ``values``, where it stood among the rows that were given.
        rejected: The other rows, in the order in which they were given.
    """

    values: Matrix
    positions: npt.NDArray[np.intp]
    rejected: tuple[RejectedRow, ...]


class FeatureReader:
    """Checks rows against a contract and makes the matrix of those that fit."""

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for a contract and the precision of the model's input."""
        self._features = contract.features
        self._encoding = encoding_of(contract)
        self._limits = {
            name: FeatureLimits(feature, precision)
            for name, feature in contract.features.items()
            if feature.is_number
        }

    def read(self, rows: "Sequence[Mapping[str, Any]] | pd.DataFrame") -> FeatureMatrix:
        """Sort rows into those that fit, as a matrix, and those that do not, with the reasons.

        Args:
            rows: Values by the contract's feature names; other names are ignored. Text is no
                number, whatever it says.
        """
        if not self._encoding.is_identity:
            return self._read_mixed(rows)
        faults: dict[int, list[str]] = {}
        matrix = np.empty((len(rows), len(self._limits)), dtype=np.float64)
        for index, (name, limits) in enumerate(self._limits.items()):
            column, unread = _read_column(rows, name)
            matrix[:, index] = column
            for position in limits.violations(matrix[:, index]).tolist():
                fault = unread.get(position) or _out_of_limits(limits, column[position])
                allowed = limits.describe()
                faults.setdefault(position, []).append(f"{name}: {fault}; allowed is {allowed}")
        accepted, rejected = _sort(len(rows), faults)
        return FeatureMatrix(matrix[accepted] if faults else matrix, accepted, rejected)

    def _read_mixed(self, rows: "Sequence[Mapping[str, Any]] | pd.DataFrame") -> FeatureMatrix:
        """Read rows of any types, value by value."""
        faults: dict[int, list[str]] = {}
        columns = {}
        for name, feature in self._features.items():
            columns[name] = values = [_plain(one) for one in _raw_column(rows, name)]
            for position, value in enumerate(values):
                fault = self._fault(value, name, feature)
                if fault is not None:
                    found = "" if value is None else f", found {_shown(value)}"
                    told = f"{name}: {fault}{found}; allowed is {describe(feature)}"
                    faults.setdefault(position, []).append(told)
        accepted, rejected = _sort(len(rows), faults)
        fitting = [[columns[name][row] for name in columns] for row in accepted.tolist()]
        matrix = self._encoding.rows(fitting)
        return FeatureMatrix(matrix, accepted, rejected)

    def _fault(self, value: Any, name: str, feature: Feature) -> str | None:
        if value is None:
            return None if feature.is_optional else "is missing"
        if not feature.is_number:
            return fault_of(value, feature)
        fault = _unreadable(value)
        if fault is not None:
            return fault
        try:
            return self._limits[name].fault(float(value))
        except OverflowError:
            return "is beyond what the model computes"


def _sort(
    count: int, faults: dict[int, list[str]]
) -> tuple[npt.NDArray[np.intp], tuple[RejectedRow, ...]]:
    """The positions of the rows without a fault, and the others with their reasons."""
    rejected = tuple(RejectedRow(row, ". ".join(faults[row])) for row in sorted(faults))
    accepted = np.delete(np.arange(count, dtype=np.intp), [one.position for one in rejected])
    return accepted, rejected


def _plain(value: Any) -> Any:
    """A value of a table or file as JSON would hold it; None where there is none."""
    if isinstance(value, date):
        return None if type(value).__name__ in _MISSING else value.isoformat()
    if type(value).__name__ in _MISSING or value != value:  # noqa: PLR0124  (NaN)
        return None
    if isinstance(value, Decimal):
        return float(value)
    return value.item() if isinstance(value, np.generic) else value


def _raw_column(rows: "Sequence[Mapping[str, Any]] | pd.DataFrame", name: str) -> list[Any]:
    if isinstance(rows, Sequence):
        return [row.get(name) for row in rows]
    if name not in rows.columns:
        return [None] * len(rows)
    found: list[Any] = rows[name].astype(object).tolist()
    return found


def _read_column(
    rows: "Sequence[Mapping[str, Any]] | pd.DataFrame", name: str
) -> tuple[Matrix, dict[int, str]]:
    """A feature's values as numbers, NaN where there is none, and why there is none."""
    if not isinstance(rows, Sequence) and name in rows.columns:
        column = rows[name]
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
            return column.to_numpy(dtype=np.float64), {}
    return _read_values(_raw_column(rows, name))


def _read_values(values: list[Any]) -> tuple[Matrix, dict[int, str]]:
    if set(map(type, values)) <= _NUMBERS:
        try:
            return np.array(values, dtype=np.float64), {}
        except OverflowError:
            pass
    column = np.full(len(values), np.nan)
    unread: dict[int, str] = {}
    for position, value in enumerate(values):
        fault = _unreadable(value)
        if fault is None:
            try:
                column[position] = float(value)
            except OverflowError:
                fault = "is beyond what the model computes"
            except ValueError:  # A signalling NaN.
                fault = "is not finite"
        if fault is not None:
            found = "" if fault == "is missing" else f", found {_shown(value)}"
            unread[position] = f"{fault}{found}"
    return column, unread


def _unreadable(value: Any) -> str | None:
    if value is None or type(value).__name__ in _MISSING:
        return "is missing"
    is_number = isinstance(value, int | float | Decimal | np.integer | np.floating)
    return None if is_number and not isinstance(value, bool) else "is no number"


def _out_of_limits(limits: FeatureLimits, value: float) -> str:
    return f"{limits.fault(float(value))}, found {float(value):g}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
