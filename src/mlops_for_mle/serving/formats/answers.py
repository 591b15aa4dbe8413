"""Writes the answers of ``POST /predict`` by a release's contract.

Rows are answered in the form in which they were given: an object, a list of objects, columns.
"""

import operator
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np
import orjson

from mlops_for_mle.contract.model import RESERVED_ANSWER_NAMES
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.formats.row_reader import COLUMNS_KEY, RowsForm
from mlops_for_mle.serving.recording import AnsweredPredictions

# Stands for what is filled in later; JSON text never holds this byte.
_SLOT = b"\x00"


class AnswerWriter:
    """Turns predictions into JSON."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the answers of a release.

        Raises:
            ReleaseError: The contract's response name is one that every answer has.
        """
        target = manifest.contract.target
        if target.response_name in RESERVED_ANSWER_NAMES:
            raise ReleaseError(
                f"Release {manifest.release}: target.response_name {target.response_name!r} is "
                f"taken; allowed is any name but {', '.join(sorted(RESERVED_ANSWER_NAMES))}"
            )
        self._name = target.response_name
        self._labels = target.labels
        self._texts = target.values if target.has_text_classes else None
        self._has_probabilities = manifest.model.has_probabilities
        self._label_order = tuple(target.labels.values())
        # A float32 model knows no more digits; they would only make answers longer.
        self._precision = np.dtype(manifest.model.precision)
        self._constant = {"model_version": manifest.model.version, "release": manifest.release}

    def write(self, answered: AnsweredPredictions, form: RowsForm) -> bytes:
        """The body of the answer."""
        if form is RowsForm.COLUMNS:
            return encode(self._columns(answered))
        if len(answered.rows) > 1:
            return self._rows(answered)
        row = self._row(answered)
        return encode(row if form is RowsForm.ONE else [row])

    def _row(self, answered: AnsweredPredictions) -> dict[str, Any]:
        value: Any = answered.predictions.values.item(0)
        answer: dict[str, Any] = {self._name: self._texts[value] if self._texts else value}
        if self._labels:
            answer["label"] = self._labels[value]
        probabilities = answered.predictions.probabilities
        if probabilities is not None:
            row = probabilities[0].astype(self._precision)
            answer["probabilities"] = dict(zip(self._label_order, row, strict=True))
        answer["prediction_id"] = answered.prediction_id
        answer.update(self._constant)
        return answer

    def _rows(self, answered: AnsweredPredictions) -> bytes:
        """A list of what ``_row`` gives, put together from texts: objects would take six times."""
        values = answered.predictions.values
        # The text of a class stands in its template.
        texts = [] if self._texts else [encode(values)[1:-1].split(b",")]
        probabilities = answered.predictions.probabilities
        if probabilities is not None:
            by_class = np.ascontiguousarray(probabilities.T, self._precision)
            texts.extend(encode(column)[1:-1].split(b",") for column in by_class)
        templates: Iterable[bytes] = repeat(self._template(None))
        if self._labels:
            by_value = {value: self._template(value) for value in self._labels}
            templates = [by_value[value] for value in values.tolist()]
        prefix = answered.prediction_id.encode()
        numbers = [b"%d" % row for row in range(len(values))]
        rows = zip(*texts, repeat(prefix), numbers, strict=False)
        return b"[%b]" % b",".join(map(operator.mod, templates, rows))

    def _template(self, code: int | None) -> bytes:
        """The answer to a row with slots for its prediction, probabilities, id and number."""
        slot = orjson.Fragment(_SLOT)
        answer: dict[str, Any] = {self._name: slot}
        if code is not None:
            if self._texts:
                answer[self._name] = self._texts[code]
            answer["label"] = self._labels[code]
        if self._has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._label_order, slot)
        answer["prediction_id"] = orjson.Fragment(b'"%b-%b"' % (_SLOT, _SLOT))
        return encode(answer | self._constant).replace(b"%", b"%%").replace(_SLOT, b"%b")

    def _columns(self, answered: AnsweredPredictions) -> dict[str, Any]:
        values = answered.predictions.values
        columns: dict[str, Any] = {self._name: values}
        if self._texts:
            columns[self._name] = [self._texts[code] for code in values.tolist()]
        if self._labels:
            columns["label"] = [self._labels[value] for value in values.tolist()]
        probabilities = answered.predictions.probabilities
        if probabilities is not None:
            by_class = np.ascontiguousarray(probabilities.T, self._precision)
            columns["probabilities"] = dict(zip(self._label_order, by_class, strict=True))
        return {
            COLUMNS_KEY: columns,
            "prediction_id": answered.prediction_id,
            **self._constant,
        }


def encode(document: object) -> bytes:
    """JSON of what may hold numpy arrays, which must be contiguous."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
