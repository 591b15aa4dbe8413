"""Writes the answers of the Open Inference Protocol, version 2, over REST."""

import struct
from typing import Any, NamedTuple

import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.predictor import INPUT_NAME, PROBABILITY_OUTPUT
from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.formats.answers import encode
from mlops_for_mle.serving.formats.feature_tensors import datatype_of
from mlops_for_mle.serving.formats.tensor_reader import InferenceRequest
from mlops_for_mle.serving.http.problems import FieldError, unprocessable
from mlops_for_mle.serving.recording import AnsweredPredictions

LABEL_OUTPUT = "label"

_WRITTEN_TYPES = {"INT64": "<i8", "FP64": "<f8", "FP32": "<f4"}


class OutputKind(NamedTuple):
    """What the model metadata says of one output; -1 stands for the number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class WrittenAnswer(NamedTuple):
    """The body of an answer; ``json_bytes`` is the length of its JSON where more follows."""

    body: bytes
    json_bytes: int | None


class TensorWriter:
    """Turns predictions into tensors."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the answers of a release."""
        contract = manifest.contract
        target = contract.target
        self._model = {
            "model_name": contract.name,
            "model_version": str(manifest.model.version),
        }
        self._release = manifest.release
        self._labels = target.labels
        is_classifier = target.task == "classification"
        self._name = target.response_name
        self.input_names = contract.feature_names
        self._texts = target.values if target.has_text_classes else None
        kind = "INT64" if is_classifier else "FP64"
        self.outputs = [OutputKind(self._name, "BYTES" if self._texts else kind, (-1,))]
        self._inputs = _inputs(contract)
        if self._labels:
            self.outputs.append(OutputKind(LABEL_OUTPUT, "BYTES", (-1,)))
        if manifest.model.has_probabilities:
            shape = (-1, len(self._labels))
            kind = "FP32" if manifest.model.precision == "float32" else "FP64"
            self.outputs.append(OutputKind(PROBABILITY_OUTPUT, kind, shape))
        self._kinds = {kind.name: kind for kind in self.outputs}

    def metadata(self) -> dict[str, Any]:
        """The model metadata of the protocol."""
        return {
            "name": self._model["model_name"],
            "versions": [self._model["model_version"]],
            "platform": "onnxruntime_onnx",
            "inputs": self._inputs,
            "outputs": [kind._asdict() for kind in self.outputs],
            "parameters": {"features": list(self.input_names), "release": self._release},
        }

    def check_outputs(self, request: InferenceRequest) -> None:
        """Refuse outputs that the model does not have, before anything is predicted.

        Raises:
            ProblemError: 422.
        """
        for index, output in enumerate(request.outputs):
            if output.name not in self._kinds:
                where = f"outputs[{index}].name"
                raise unprocessable(
                    [FieldError(where, "is unknown", output.name[:80], ", ".join(self._kinds))]
                )

    def write(self, request: InferenceRequest, answered: AnsweredPredictions) -> WrittenAnswer:
        """The answer, with the outputs and in the encoding that the request asks for."""
        by_default = request.parameters.get("binary_data_output") is True
        wanted = [
            (self._kinds[one.name], one.parameters.get("binary_data", by_default) is True)
            for one in request.outputs
        ] or [(kind, by_default) for kind in self.outputs]
        tensors = []
        parts: list[bytes] = []
        for kind, is_binary in wanted:
            tensor: dict[str, Any] = {
                "name": kind.name,
                "datatype": kind.datatype,
                "shape": [len(answered.rows), *kind.shape[1:]],
            }
            if is_binary:
                parts.append(self._binary(kind, answered))
                tensor["parameters"] = {"binary_data_size": len(parts[-1])}
            else:
                tensor["data"] = self._list(kind, answered)
            tensors.append(tensor)
        document = {
            **self._model,
            "id": request.id or answered.prediction_id,
            "parameters": {"prediction_id": answered.prediction_id, "release": self._release},
            "outputs": tensors,
        }
        head = encode(document)
        if not parts:
            return WrittenAnswer(head, None)
        return WrittenAnswer(b"".join((head, *parts)), len(head))

    def _values(self, kind: OutputKind, answered: AnsweredPredictions) -> npt.NDArray[Any]:
        predictions = answered.predictions
        if kind.name == PROBABILITY_OUTPUT and predictions.probabilities is not None:
            values: npt.NDArray[Any] = predictions.probabilities
        else:
            values = predictions.values
        return values.reshape(-1).astype(_WRITTEN_TYPES[kind.datatype])

    def _list(self, kind: OutputKind, answered: AnsweredPredictions) -> Any:
        if kind.datatype == "BYTES":
            texts = self._texts_of(kind)
            return [texts[value] for value in answered.predictions.values.tolist()]
        return self._values(kind, answered)

    def _binary(self, kind: OutputKind, answered: AnsweredPredictions) -> bytes:
        if kind.datatype == "BYTES":
            texts = {value: _length_prefixed(text) for value, text in self._texts_of(kind).items()}
            return b"".join(texts[value] for value in answered.predictions.values.tolist())
        return self._values(kind, answered).tobytes()

    def _texts_of(self, kind: OutputKind) -> dict[int, str]:
        if kind.name == self._name and self._texts:
            return {code: str(text) for code, text in self._texts.items()}
        return self._labels


def _inputs(contract: Contract) -> list[dict[str, Any]]:
    if encoding_of(contract).is_identity:
        shape = [-1, len(contract.features)]
        return [{"name": INPUT_NAME, "datatype": "FP64", "shape": shape}]
    return [
        {"name": name, "datatype": datatype_of(feature), "shape": [-1]}
        for name, feature in contract.features.items()
    ]


def _length_prefixed(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded
