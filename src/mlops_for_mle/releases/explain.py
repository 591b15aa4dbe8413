"""Why a model answers as it does, and which values of a row lie outside what it was trained on.

A feature's contribution (Shapley value) is how much the answer changes when its value takes the
place of another row's, averaged over the orders in which the features can do so and over the
background, some rows of the snapshot. Contributions add up to the answer minus the background's
mean (Lundberg and Lee 2017; the background is what they condition on by intervention). All columns
that are encoded from one feature change together.
"""

from collections.abc import Sequence
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

# For each row of the background; each counts forwards and backwards, so that they err in opposite
# directions (antithetic sampling), and not at all where features act in pairs at most.
_ORDERS = 4


class Explanation(NamedTuple):
    """Why one row is answered as it is.

    Attributes:
        explained: ``value``, the number that a regression answers; ``probability``, that of the
            answered class; ``answer``, of a model without probabilities: 1 for rows that are
            answered with this class, 0 for others.
        value: That of the row.
        base: Its mean over the background.
        contributions: By feature; they add up to ``value - base``.
    """

    explained: Explained
    value: float
    base: float
    contributions: dict[str, float]


class Explainer:
    """Explains the answers of one model, and a row always in the same way."""

    def __init__(self, predictor: Predictor, background: Sequence[Sequence[PlainValue]]) -> None:
        """Take rows of plain values in the order of the contract's features."""
        self._predictor, contract = predictor, predictor.contract
        self._names, self._target = tuple(contract.features), contract.target
        encoder = Encoder(contract, predictor.precision)
        self._background = encoder(zip(*background, strict=True))
        # The place of the feature from which each column is encoded.
        self._sources = np.array(
            [self._names.index(one.source) for one in encoded_columns(contract)]
        )

    def explain(self, row: Matrix) -> Explanation:
        """Explain the answer to one encoded row, of shape (columns,)."""
        precision = self._predictor.precision
        row = row.astype(precision)
        answers = self._predictor.predict(np.vstack([row, self._background], dtype=precision))
        code, count = answers.values[0], len(self._names)
        value, *bases = self._explained(answers, code).tolist()
        random, contributions = np.random.default_rng(0), np.zeros(count)
        # One by one, since models are quickest with some 100 rows, which stay in the cache.
        for other in self._background:
            # Where both have the same value, a feature contributes nothing.
            players = np.unique(self._sources[row != other])
            # When each of them takes the row's value, in each of the orders.
            turns = random.permuted(np.tile(np.arange(len(players)), (_ORDERS, 1)), axis=1)
            turns = np.vstack([turns, len(players) - 1 - turns])
            moments = np.arange(len(players) + 1)
            is_taken = np.zeros((len(turns), len(moments), count), dtype=bool)
            is_taken[..., players] = turns[:, None] < moments[:, None]
            mixed = np.where(is_taken[..., self._sources], row, other).reshape(-1, len(row))
            found = self._explained(self._predictor.predict(mixed), code)
            gains = np.diff(found.reshape(len(turns), -1), axis=1)
            contributions[players] += np.take_along_axis(gains, turns, axis=1).mean(axis=0)
        kind: Explained = "value"
        if self._target.classes:
            kind = "probability" if self._predictor.has_probabilities else "answer"
        shares = (contributions / len(bases)).tolist()
        by_feature = dict(zip(self._names, shares, strict=True))
        return Explanation(kind, value, float(np.mean(bases)), by_feature)

    def importance(self, rows: Matrix) -> dict[str, float]:
        """The mean size of each feature's contribution to the answers to some encoded rows."""
        explained = [self.explain(row).contributions for row in rows]
        return {name: float(np.mean([abs(one[name]) for one in explained])) for name in self._names}

    def _explained(self, answers: Predictions, code: float) -> npt.NDArray[np.float64]:
        if answers.probabilities is not None:
            return answers.probabilities[:, self._target.class_codes.index(int(code))]
        found = answers.values == code if self._target.classes else answers.values
        return found.astype(np.float64)


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
