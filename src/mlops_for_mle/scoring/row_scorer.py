"""Rows in, predictions out, by one release and without any transport."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.predictor import Predictions, Predictor
from mlops_for_mle.release import Manifest
from mlops_for_mle.scoring.feature_matrix import FeatureReader, Matrix, RejectedRow

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The predictions for the rows that fit the contract, and the reasons for those that do not.

    Attributes:
        manifest: Of the release that scored them.
        positions: For each prediction, where its row stood among the rows that were given.
        values: One answer of the model a prediction: a class's code (int64) or a number (float64).
        labels: The name of each predicted class; None for a regression.
        probabilities: Predictions by classes in the contract's order, or None.
        rejected: The rows that were not scored.
    """

    manifest: Manifest
    positions: npt.NDArray[np.intp]
    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    labels: tuple[str | None, ...]
    probabilities: npt.NDArray[np.float64] | None
    rejected: tuple[RejectedRow, ...]

    @property
    def answers(self) -> list[Any]:
        """The predictions as a table holds them: the values of classes, or numbers."""
        target, answers = self.manifest.contract.target, self.values.tolist()
        return [target.values[code] for code in answers] if target.has_text_classes else answers

    def __len__(self) -> int:
        """How many rows were scored."""
        return len(self.values)


class RowScorer:
    """A release that has answered its own example, ready to score rows."""

    def __init__(self, predictor: Predictor) -> None:
        """Prepare what its contract determines."""
        self.manifest = predictor.manifest
        self._predictor = predictor
        self._reader = FeatureReader(self.manifest.contract, self.manifest.model.precision)
        self._labels = self.manifest.contract.target.labels

    def score(self, rows: "Sequence[Mapping[str, Any]] | pd.DataFrame") -> ScoredRows:
        """Score the rows that fit the release's contract.

        Args:
            rows: Values by feature name; other names are ignored.
        """
        matrix = self._reader.read(rows)
        answers, faults = self._answer(matrix.values)
        unanswered = (RejectedRow(int(matrix.positions[row]), why) for row, why in faults.items())
        rejected = sorted([*matrix.rejected, *unanswered], key=lambda one: one.position)
        return ScoredRows(
            manifest=self.manifest,
            positions=np.delete(matrix.positions, list(faults)),
            values=answers.values,
            labels=tuple(map(self._labels.get, answers.values.tolist())),
            probabilities=answers.probabilities,
            rejected=tuple(rejected),
        )

    def _answer(self, matrix: Matrix) -> tuple[Predictions, dict[int, str]]:
        """Predictions for the rows that the model can answer, and why it cannot answer others."""
        faults: dict[int, str] = {}
        try:
            answers = self._predict(matrix)
        except Exception:  # noqa: BLE001  (one row must not hold up the others)
            faults = self._failing_rows(matrix)
            answers = self._predict(np.delete(matrix, list(faults), axis=0))
        finite = np.isfinite(answers.values)
        if not finite.all():
            answered = np.delete(np.arange(len(matrix)), list(faults))
            for row, value in zip(answered[~finite], answers.values[~finite], strict=True):
                faults[int(row)] = f"the model answers {value}"
            probabilities = answers.probabilities
            answers = Predictions(
                answers.values[finite], None if probabilities is None else probabilities[finite]
            )
        return answers, faults

    def _predict(self, matrix: Matrix) -> Predictions:
        if len(matrix):
            return self._predictor.predict(matrix)
        # Not every kind of model takes a matrix without rows.
        example = np.asarray(self.manifest.example.rows[:1], dtype=np.float64)
        answers = self._predictor.predict(example)
        probabilities = answers.probabilities
        return Predictions(answers.values[:0], None if probabilities is None else probabilities[:0])

    def _failing_rows(self, matrix: Matrix) -> dict[int, str]:
        faults: dict[int, str] = {}
        for row in range(len(matrix)):
            try:
                self._predictor.predict(matrix[row : row + 1])
            except Exception as error:  # noqa: BLE001  (onnxruntime has many kinds)
                faults[row] = f"the model fails: {error}"
        return faults
