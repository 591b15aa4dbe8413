"""Writes answers by a release's contract."""

from typing import Any

import msgspec

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.recording import AnsweredPredictions

RESERVED_NAMES = ("label", "probabilities", "prediction_id", "model_version", "release")

_encode = msgspec.json.Encoder().encode


class AnswerWriter:
    """Turns predictions into the JSON of ``POST /predict``."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the answers of a release.

        Raises:
            ReleaseError: The contract's response name is one that every answer has.
        """
        target = manifest.contract.target
        if target.response_name in RESERVED_NAMES:
            raise ReleaseError(
                f"Release {manifest.release}: target.response_name {target.response_name!r} is "
                f"taken; allowed is any name but {', '.join(RESERVED_NAMES)}"
            )
        self._name = target.response_name
        self._labels = target.labels
        self._label_order = tuple(target.labels.values())
        self._constant = {
            "model_version": manifest.model.version,
            "release": manifest.release,
        }

    def one(self, answered: AnsweredPredictions) -> bytes:
        """The answer to a request of one row."""
        predictions = answered.predictions
        value: Any = predictions.values.item(0)
        answer: dict[str, Any] = {self._name: value}
        if self._labels:
            answer["label"] = self._labels.get(value)
        if predictions.probabilities is not None:
            answer["probabilities"] = dict(
                zip(self._label_order, predictions.probabilities[0].tolist(), strict=True)
            )
        answer["prediction_id"] = answered.prediction_id
        answer.update(self._constant)
        return _encode(answer)


def answer_schema(contract: Contract, has_probabilities: bool) -> dict[str, Any]:
    """The JSON schema of the answer to one row."""
    target = contract.target
    properties: dict[str, Any] = {}
    if target.task == "classification":
        properties[target.response_name] = {"type": "integer", "enum": list(target.class_values)}
        properties["label"] = {"type": "string", "enum": list(target.labels.values())}
    else:
        properties[target.response_name] = {"type": "number"}
    if has_probabilities:
        one = {"type": "number", "minimum": 0, "maximum": 1}
        labels = list(target.labels.values())
        properties["probabilities"] = {
            "type": "object",
            "properties": dict.fromkeys(labels, one),
            "required": labels,
            "additionalProperties": False,
        }
    properties["prediction_id"] = {"type": "string", "format": "uuid"}
    properties["model_version"] = {"type": "integer", "minimum": 1}
    properties["release"] = {"type": "string"}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
