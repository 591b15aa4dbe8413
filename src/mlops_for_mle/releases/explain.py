"""Why a model answers as it does: Shapley values of the contract's features, on the served graph.

A feature's contribution is how much the answer changes when its value takes the place of another
row's, averaged over the orders in which the features can do so and over the background, some rows
of the snapshot. Contributions add up to the answer minus the background's mean (Lundberg and Lee
2017; the background is what they condition on by intervention). All columns that are encoded from
one feature change together.
"""

from collections.abc import Sequence
from math import comb
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.encoding import Encoder, Matrix, encoded_columns
from mlops_for_mle.releases.manifest import PlainValue
from mlops_for_mle.releases.predictor import Predictions, Predictor

Explained = Literal["value", "probability", "answer"]

# Of up to so many features every subset is tried: it costs as much as the permutations of more.
_MOST_ENUMERATED = 7
# For each row of the background; each counts forwards and backwards.
_PERMUTATIONS = 4


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
        self._names, self._target = contract.feature_names, contract.target
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
            make_plan = _some_orders if len(players) > _MOST_ENUMERATED else _every_subset
            plan = make_plan(len(players), random)
            is_taken = np.zeros((len(plan.taken), count), dtype=bool)
            is_taken[:, players] = plan.taken
            mixed = np.where(is_taken[:, self._sources], row, other)
            found = self._explained(self._predictor.predict(mixed), code)
            gains = (found[plan.after] - found[plan.before]) * plan.share
            contributions[players] += gains.sum(axis=0)
        kind: Explained = "probability" if self._predictor.has_probabilities else "answer"
        return Explanation(
            kind if self._target.classes else "value",
            value,
            float(np.mean(bases)),
            dict(zip(self._names, (contributions / len(bases)).tolist(), strict=True)),
        )

    def importance(self, rows: Matrix) -> dict[str, float]:
        """The mean size of each feature's contribution to the answers to some encoded rows."""
        explained = [self.explain(row).contributions for row in rows]
        return {name: float(np.mean([abs(one[name]) for one in explained])) for name in self._names}

    def _explained(self, answers: Predictions, code: float) -> npt.NDArray[np.float64]:
        if answers.probabilities is not None:
            return answers.probabilities[:, self._target.class_codes.index(int(code))]
        found = answers.values == code if self._target.classes else answers.values
        return found.astype(np.float64)


class _Plan(NamedTuple):
    """Rows to mix of two, and which of their answers to compare for each feature.

    Attributes:
        taken: Which features come from the row that is explained; shape (rows, features).
        before: Rows without each feature; shape (comparisons, features).
        after: The same rows with it.
        share: What each comparison counts.
    """

    taken: npt.NDArray[np.bool_]
    before: npt.NDArray[np.intp]
    after: npt.NDArray[np.intp]
    share: npt.NDArray[np.float64] | float


def _every_subset(count: int, _: np.random.Generator) -> _Plan:
    """Shapley's formula: a subset counts by how many orders of the features begin with it."""
    taken = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 == 1
    before = np.argsort(taken, axis=0, kind="stable")[: 2**count // 2]
    share = np.array([1 / (count * comb(count - 1, size)) for size in range(count)])
    return _Plan(taken, before, before + 2 ** np.arange(count), share[taken.sum(axis=1)[before]])


def _some_orders(count: int, random: np.random.Generator) -> _Plan:
    """Ways from one row to the other, a feature a step, each with the same way backwards.

    The two of a pair err in opposite directions (antithetic sampling).
    """
    steps = random.permuted(np.tile(np.arange(count), (_PERMUTATIONS, 1)), axis=1)
    steps = np.vstack([steps, count - 1 - steps])
    taken = (steps[:, None] < np.arange(count + 1)[:, None]).reshape(-1, count)
    before = steps + (count + 1) * np.arange(len(steps))[:, None]
    return _Plan(taken, before, before + 1, 1 / len(steps))
