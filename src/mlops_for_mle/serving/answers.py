"""Writes the answers of one release to rows, in the form in which they were given.

The numbers of a model are written once, by ``texts_of``, for the answer and the prediction log.
Around them an answer is always the same, so the rest is a template.
"""

from itertools import compress, repeat
from operator import mod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY, Form
from mlops_for_mle.serving.context import Answer
from mlops_for_mle.serving.documents import encode

if TYPE_CHECKING:
    from mlops_for_mle.serving.predict import Answered

# Where a number, a list of them or an id goes in a template; JSON itself has no such byte.
_SLOT, _SLOTS, _NAME = (msgspec.Raw(one) for one in (b"\x00", b"[\x00]", b'"\x00"'))


def texts_of(predictions: Predictions, precision: Precision) -> list[bytes]:
    """Answers as JSON numbers with commas between: the values, and the chances of each class.

    They have the digits that the model computes; orjson writes arrays, and float32 as such.
    """
    values, chances = predictions
    if values.dtype.kind == "f":
        values = values.astype(precision)
    texts = [orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]]
    if chances is not None:
        by_class = np.ascontiguousarray(chances.T, precision)
        texts += orjson.dumps(by_class, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
    return texts


class Answers:
    """The answers of one release to ``POST /predict``."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare the templates."""
        self._manifest, self._target = manifest, manifest.contract.target
        labels, values = self._target.labels, self._target.values
        self._labels = {code: encode(label) for code, label in labels.items()}
        self._values = {code: encode(value) for code, value in values.items()}
        self._by_columns = self._template({COLUMNS_KEY: self._answer(_SLOTS)})
        self._by_class: dict[int | None, bytes] = {None: self._template(self._answer(_SLOT))}
        for code, label in labels.items():
            known = {self._target.response_name: values[code], "label": label}
            self._by_class[code] = self._template(self._answer(_SLOT) | known)

    def write(self, answered: "Answered") -> Answer:
        """Answer a request; a row of several has its place behind the prediction's id."""
        rows, name = answered.question.rows, answered.prediction_id.encode()
        values, *chances = answered.texts
        codes = answered.predictions.values.tolist() if self._labels else repeat(None)
        if rows.form is Form.COLUMNS:
            if self._target.has_text_classes:
                values = b",".join(map(self._values.__getitem__, codes))
            labels = [b",".join(map(self._labels.__getitem__, codes))] if self._labels else []
            answer = self._by_columns % (values, *labels, *chances, name)
            if answered.outside is not None:
                features = zip(self._manifest.contract.features, answered.outside.T, strict=True)
                places = {feature: np.flatnonzero(one).tolist() for feature, one in features}
                answer = _add(answer, {name: one for name, one in places.items() if one})
            return Answer(answer)
        names = [name] if rows.count == 1 else [b"%b-%d" % (name, at) for at in range(rows.count)]
        numbers = chances if self._labels else answered.texts
        slots = zip(*(one.split(b",") for one in numbers), names, strict=True)
        answers = map(mod, map(self._by_class.__getitem__, codes), slots)
        if answered.outside is not None:
            answers = map(self._add_features, answers, answered.outside.tolist())
        return Answer(next(answers) if rows.form is Form.ONE else b"[%b]" % b",".join(answers))

    def _add_features(self, answer: bytes, outside: list[bool]) -> bytes:
        found = list(compress(self._manifest.contract.features, outside))
        return _add(answer, found) if found else answer

    def _answer(self, slot: msgspec.Raw) -> dict[str, Any]:
        """What is answered to rows, with slots for what the model says."""
        answer: dict[str, Any] = {self._target.response_name: slot}
        if self._target.labels:
            answer["label"] = slot
        if self._manifest.has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._target.labels.values(), slot)
        return answer

    def _template(self, answer: dict[str, Any]) -> bytes:
        release = {"model_version": self._manifest.version, "release": self._manifest.release}
        template = encode(answer | {"prediction_id": _NAME} | release)
        return template.replace(b"%", b"%%").replace(b"\x00", b"%b")


def _add(answer: bytes, outside: list[str] | dict[str, list[int]]) -> bytes:
    """Tell at the end of an answer what lies outside of what the model was trained on."""
    return b'%b,"%b":%b}' % (answer[:-1], OUTSIDE_KEY.encode(), encode(outside))
