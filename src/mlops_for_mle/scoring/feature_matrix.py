"""Turns rows of raw values into the model's matrix: the one place where scoring does that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.release import Precision
from mlops_for_mle.scoring.feature_limits import FeatureLimits

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
        values: Shape (accepted rows, features), in the order of the contract's features.
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
        self._limits = {
            name: FeatureLimits(feature, precision) for name, feature in contract.features.items()
        }

    def read(self, rows: "Sequence[Mapping[str, Any]] | pd.DataFrame") -> FeatureMatrix:
        """Sort rows into those that fit, as a matrix, and those that do not, with the reasons.

        Args:
            rows: Values by the contract's feature names; other names are ignored. A value is a
                number; text is no number, whatever it says.
        """
        faults: dict[int, list[str]] = {}
        matrix = np.empty((len(rows), len(self._limits)), dtype=np.float64)
        for index, (name, limits) in enumerate(self._limits.items()):
            column, unread = _read_column(rows, name)
            matrix[:, index] = column
            for position in limits.violations(matrix[:, index]).tolist():
                fault = unread.get(position) or _out_of_limits(limits, column[position])
                allowed = limits.describe()
                faults.setdefault(position, []).append(f"{name}: {fault}; allowed is {allowed}")
        positions = np.arange(len(rows), dtype=np.intp)
        if not faults:
            return FeatureMatrix(matrix, positions, ())
        rejected = sorted(faults)
        return FeatureMatrix(
            np.delete(matrix, rejected, axis=0),
            np.delete(positions, rejected),
            tuple(RejectedRow(position, ". ".join(faults[position])) for position in rejected),
        )


def _read_column(
    rows: "Sequence[Mapping[str, Any]] | pd.DataFrame", name: str
) -> tuple[Matrix, dict[int, str]]:
    """A feature's values as numbers, NaN where there is none, and why there is none."""
    if isinstance(rows, Sequence):
        return _read_values([row.get(name) for row in rows])
    if name not in rows.columns:
        return _read_values([None] * len(rows))
    column = rows[name]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64), {}
    return _read_values(column.astype(object).tolist())


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
