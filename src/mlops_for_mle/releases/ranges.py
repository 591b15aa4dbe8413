"""What the columns of the training rows held, and which rows of a request lie outside of it."""

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Matrix, encoded_columns
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.releases.manifest import TrainingRange

Outside = npt.NDArray[np.bool_] | None
"""Which values lie outside, of shape (rows, features); None where none does."""


def training_ranges(rows: Matrix, contract: Contract) -> dict[str, TrainingRange]:
    """The range of each encoded column that has a value at all."""
    found = {}
    for column, values in zip(encoded_columns(contract), rows.T, strict=True):
        present = np.unique(values[~np.isnan(values)])
        if not len(present):
            continue
        absent = np.array([])
        if column.kind == "category":
            absent = np.setdiff1d(np.arange(present[0], present[-1]), present)
        found[column.name] = TrainingRange(
            least=present[0], largest=present[-1], absent=tuple(absent.tolist())
        )
    return found


class Ranges:
    """Finds what lies outside the ranges of the training rows."""

    def __init__(
        self,
        contract: Contract,
        ranges: dict[str, TrainingRange],
        precision: Precision = "float64",
    ) -> None:
        """Take ranges by the names of columns; one without has no bounds.

        They are rounded as the model rounds, or a value that is a bound could lie outside of it.
        """
        columns = encoded_columns(contract)
        unbounded = TrainingRange(least=-np.inf, largest=np.inf)
        known = [ranges.get(one.name, unbounded) for one in columns]
        bounds = np.array([(one.least, one.largest) for one in known], precision)
        self._least, self._largest = bounds.T
        self._bounds: list[tuple[float, float]] = list(map(tuple, bounds.tolist()))
        self._absent = [(place, one.absent) for place, one in enumerate(known) if one.absent]
        sources = [one.source for one in columns]
        self._first_columns = [sources.index(name) for name in contract.features]

    def outside(self, rows: Matrix) -> Outside:
        """Compare encoded rows; a missing value lies nowhere, if it is no category of its own."""
        if len(rows) == 1 and not self._absent and self._is_inside(rows[0].tolist()):
            return None
        is_outside = (rows < self._least) | (rows > self._largest)
        for place, codes in self._absent:
            is_outside[:, place] |= np.isin(rows[:, place], codes)
        if not is_outside.any():
            return None
        return np.logical_or.reduceat(is_outside, self._first_columns, axis=1)

    def _is_inside(self, row: list[float]) -> bool:
        """Whether one row lies inside, which most do: NumPy takes four times as long to tell."""
        for value, (least, largest) in zip(row, self._bounds, strict=True):
            if value < least or value > largest:
                return False
        return True
