"""A model in service: answers rows by onnxruntime, as the trained model would."""

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Encoder, Matrix
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.releases.manifest import Release

INPUT_NAME = "features"
PREDICTION_OUTPUT = "prediction"
PROBABILITY_OUTPUT = "probabilities"

_TOLERANCE = 1e-4
_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"
_ELEMENT_TYPES: dict[str, Precision] = {"tensor(float)": "float32", "tensor(double)": "float64"}


class Predictions(NamedTuple):
    """The answers for some rows: class codes or numbers.

    Probabilities are rows by classes in the contract's order.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64] | None

    def take(self, rows: npt.NDArray[np.intp]) -> "Predictions":
        """The answers for some of the rows, by their positions."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Predictions(self.values[rows], probabilities)


class Predictor:
    """An ONNX graph whose input is one matrix, of a ``precision``: rows by encoded columns."""

    def __init__(self, model: bytes, contract: Contract, threshold: float | None = None) -> None:
        """Load the graph for one thread, since requests are what runs in parallel."""
        # Only now: every command of the project imports this module.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Else a graph that was altered could answer with what stands in files of this process.
        options.add_session_config_entry(_FOLDER_OF_WEIGHTS, os.devnull)
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ReleaseError(f"onnxruntime cannot load the model: {error}") from error
        self.model, self.contract, self.threshold = model, contract, threshold
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.has_probabilities = PROBABILITY_OUTPUT in self._outputs
        self.precision = _ELEMENT_TYPES[self._session.get_inputs()[0].type]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, in another process too, loads the graph again."""
        return Predictor, (self.model, self.contract, self.threshold)

    def predict(self, rows: Matrix) -> Predictions:
        """Answer rows of shape (rows, columns), as the contract's encoding gives them."""
        target = self.contract.target
        results = self._session.run(
            self._outputs, {INPUT_NAME: np.ascontiguousarray(rows, dtype=self.precision)}
        )
        values = results[0].reshape(-1)
        if not target.classes:
            values = values.astype(np.float64)
        # Of ten trees, float32 adds up more than one.
        probabilities = results[1].clip(0, 1).astype(float) if self.has_probabilities else None
        if probabilities is not None and self.threshold is not None:
            values = np.where(probabilities[:, 1] >= self.threshold, *target.class_codes[::-1])
        return Predictions(values, probabilities)


def load_predictor(release: Release) -> Predictor:
    """Load a release; a ``ReleaseError`` where it does not answer its own example as it should."""
    manifest = release.manifest
    contract, example = manifest.contract, manifest.example
    predictor = Predictor(release.model, contract, manifest.threshold)
    predictions = predictor.predict(Encoder(contract)(zip(*example.rows, strict=True)))
    expected = np.asarray(example.predictions)
    # Answers near zero are no more exact than the largest.
    size = 0.0 if contract.target.classes else max(1.0, float(np.abs(expected).max()))
    same = np.allclose(predictions.values, expected, rtol=0, atol=_TOLERANCE * size)
    if example.probabilities is not None:
        same &= predictions.probabilities is not None and np.allclose(
            predictions.probabilities, example.probabilities, atol=_TOLERANCE
        )
    if not same or not np.isfinite(predictions.values).all():
        raise ReleaseError(
            f"Release {manifest.release} answers its own example differently than in "
            f"training: {predictions.values.tolist()} instead of {expected.tolist()}"
        )
    return predictor
