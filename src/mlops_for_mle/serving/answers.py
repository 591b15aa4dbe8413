"""Writes the answers of ``POST /predict`` by a release's contract.

Rows are answered in the form in which they were given: an object, a list of objects, columns.
"""

from typing import Any

import msgspec

from mlops_for_mle.contract import RESERVED_RESPONSE_NAMES
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.recording import AnsweredPredictions
from mlops_for_mle.serving.row_reader import COLUMNS_KEY, RowsForm

_encode = msgspec.json.Encoder().encode


class AnswerWriter:
    """Turns predictions into JSON."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the answers of a release.

        Raises:
            ReleaseError: The contract's response name is one that every answer has.
        """
        target = manifest.contract.target
        if target.response_name in RESERVED_RESPONSE_NAMES:
            raise ReleaseError(
                f"Release {manifest.release}: target.response_name {target.response_name!r} is "
                f"taken; allowed is any name but {', '.join(sorted(RESERVED_RESPONSE_NAMES))}"
            )
        self._name = target.response_name
        self._labels = target.labels
        self._label_order = tuple(target.labels.values())
        self._constant = {"model_version": manifest.model.version, "release": manifest.release}

    def write(self, answered: AnsweredPredictions, form: RowsForm) -> bytes:
        """The body of the answer."""
        if form is RowsForm.ONE:
            return _encode(self._rows(answered)[0])
        if form is RowsForm.LIST:
            return _encode(self._rows(answered))
        return _encode(self._columns(answered))

    def labels_of(self, values: list[Any]) -> list[str]:
        """The names of classes."""
        return [self._labels[value] for value in values]

    def _rows(self, answered: AnsweredPredictions) -> list[dict[str, Any]]:
        predictions = answered.predictions
        values = predictions.values.tolist()
        answers: list[dict[str, Any]] = [{self._name: value} for value in values]
        if self._labels:
            for answer, value in zip(answers, values, strict=True):
                answer["label"] = self._labels[value]
        if predictions.probabilities is not None:
            rows = predictions.probabilities.tolist()
            for answer, row in zip(answers, rows, strict=True):
                answer["probabilities"] = dict(zip(self._label_order, row, strict=True))
        if len(answers) == 1:
            answers[0]["prediction_id"] = answered.prediction_id
            answers[0].update(self._constant)
            return answers
        for index, answer in enumerate(answers):
            answer["prediction_id"] = f"{answered.prediction_id}-{index}"
            answer.update(self._constant)
        return answers

    def _columns(self, answered: AnsweredPredictions) -> dict[str, Any]:
        predictions = answered.predictions
        values = predictions.values.tolist()
        columns: dict[str, Any] = {self._name: values}
        if self._labels:
            columns["label"] = self.labels_of(values)
        if predictions.probabilities is not None:
            lists = predictions.probabilities.T.tolist()
            columns["probabilities"] = dict(zip(self._label_order, lists, strict=True))
        return {
            COLUMNS_KEY: columns,
            "prediction_id": answered.prediction_id,
            **self._constant,
        }
