"""Why a model answers as it does, and which values of a row lie outside what it was trained on.

A feature's contribution (Shapley value) is how much the answer changes when its value takes the
place of another row's, averaged over the orders in which the features can do so and over the
background, some rows of the snapshot. Contributions add up to the answer minus the background's
mean (Lundberg and Lee 2017; the background is what they condition on by intervention). All columns
that are encoded from one feature change together.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Encoder, Matrix, encoded_columns
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.releases.manifest import PlainValue, TrainingRange
from mlops_for_mle.releases.predictor import Predictions, Predictor

Explained = Literal["value", "probability", "answer"]
Outside = npt.NDArray[np.bool_] | None
"""Which values lie outside, of shape (rows, features); None where none does."""

# For each row of the background.
_ORDERS = 4


class Explanation(NamedTuple):
    """Why one row is answered as it is.

    Attributes:
        explained: ``value``, the number that a regression answers; ``probability``, that of the
            answered class; ``answer``, of a model without probabilities: 1 for rows that are
            answered with this class, 0 for others. Of that, ``base`` is the background's mean.
    """

    explained: Explained
    value: float
    base: float
    contributions: dict[str, float]


class Explainer:
    """Explains the answers of one model, and a row always in the same way."""

    def __init__(self, predictor: Predictor, background: Sequence[Sequence[PlainValue]]) -> None:
        self._predictor, contract = predictor, predictor.contract
        self._names, self._target = tuple(contract.features), contract.target
        encoder = Encoder(contract, predictor.precision)
        self._background = encoder(zip(*background, strict=True))
        # The position of the feature from which each column is encoded.
        self._sources = np.array(
            [self._names.index(column.source) for column in encoded_columns(contract)]
        )

    def explain(self, row: Matrix) -> Explanation:
        """Explain the answer to one encoded row, of shape (columns,)."""
        row = row.astype(self._predictor.precision)
        predictions = self._predictor.predict(np.insert(self._background, 0, row, axis=0))
        code, count = predictions.values[0], len(self._names)
        value, *bases = self._explained(predictions, code).tolist()
        random, contributions = np.random.default_rng(0), np.zeros(count)
        moments = np.arange(count + 1)
        # Fewer of more than 100 features.
        orders = np.tile(np.arange(count), (max(1, 100 * _ORDERS // max(100, count)), 1))
        for reference in self._background:
            # When each feature takes the row's value, forwards and backwards (antithetic sampling):
            # errors cancel, all of them where features act in pairs at most.
            order = random.permuted(orders, axis=1)
            turns = np.vstack([order, count - 1 - order])
            is_taken = turns[:, None] < moments[:, None]
            mixed = np.where(is_taken[..., self._sources], row, reference).reshape(-1, len(row))
            outputs = self._explained(self._predictor.predict(mixed), code)
            gains = np.diff(outputs.reshape(len(turns), -1), axis=1)
            contributions += np.take_along_axis(gains, turns, axis=1).mean(axis=0)
        explained: Explained = "value"
        if self._target.classes:
            explained = "probability" if self._predictor.has_probabilities else "answer"
        by_feature = dict(zip(self._names, (contributions / len(bases)).tolist(), strict=True))
        return Explanation(explained, value, float(np.mean(bases)), by_feature)

    def importance(self, rows: Matrix) -> dict[str, float]:
        """The mean size of each feature's contribution to the answers to some encoded rows."""
        contributions = [list(self.explain(row).contributions.values()) for row in rows]
        sizes = np.abs(contributions).mean(axis=0).tolist()
        return dict(zip(self._names, sizes, strict=True))

    def _explained(self, predictions: Predictions, code: float) -> npt.NDArray[np.float64]:
        if predictions.probabilities is not None:
            return predictions.probabilities[:, self._target.class_codes.index(int(code))]
        values = predictions.values == code if self._target.classes else predictions.values
        return values.astype(np.float64)


def training_ranges(rows: Matrix, contract: Contract) -> dict[str, TrainingRange]:
    """The range of each encoded column that has a value at all."""
    ranges = {}
    for column, values in zip(encoded_columns(contract), rows.T, strict=True):
        present = np.unique(values[~np.isnan(values)])
        if not len(present):
            continue
        absent = np.array([])
        if contract.features[column.source].type == "category":
            absent = np.setdiff1d(np.arange(present[0], present[-1]), present)
        ranges[column.name] = TrainingRange(
            least=present[0], largest=present[-1], absent=tuple(absent.tolist())
        )
    return ranges


class Ranges:
    """Finds values outside the ranges of the training rows."""

    def __init__(
        self, contract: Contract, ranges: dict[str, TrainingRange], precision: Precision = "float64"
    ) -> None:
        """Take ranges by the names of columns; a column without one has no bounds.

        Bounds are rounded as the model rounds, or a value that is a bound could lie outside.
        """
        columns = encoded_columns(contract)
        unbounded = TrainingRange(least=-np.inf, largest=np.inf)
        spans = [ranges.get(column.name, unbounded) for column in columns]
        bounds = np.array([(span.least, span.largest) for span in spans], precision)
        self._least, self._largest = bounds.T
        self._bounds: list[tuple[float, float]] = list(map(tuple, bounds.tolist()))
        self._absent = [(index, span.absent) for index, span in enumerate(spans) if span.absent]
        sources = [column.source for column in columns]
        firsts = [sources.index(name) for name in contract.features]
        self._of_features = [slice(*ends) for ends in pairwise([*firsts, len(sources)])]

    def outside(self, rows: Matrix) -> Outside:
        """Compare encoded rows; a missing value is outside only if it is encoded as a category."""
        if len(rows) == 1 and not self._absent and self._is_inside(rows[0].tolist()):
            return None
        is_outside = (rows < self._least) | (rows > self._largest)
        for index, codes in self._absent:
            is_outside[:, index] |= np.isin(rows[:, index], codes)
        if not is_outside.any():
            return None
        # A tenth of the time of NumPy's `reduceat`.
        by_feature = [reduce(np.logical_or, is_outside.T[own]) for own in self._of_features]
        return np.array(by_feature).T

    def _is_inside(self, row: list[float]) -> bool:
        """Whether one row lies inside, which most do: NumPy takes four times as long to tell."""
        for value, (least, largest) in zip(row, self._bounds, strict=True):
            if value < least or value > largest:
                return False
        return True
