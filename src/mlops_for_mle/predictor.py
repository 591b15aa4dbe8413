"""A loaded release: answers rows by onnxruntime, as the trained model would."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import Manifest, Release

INPUT_NAME = "features"
PREDICTION_OUTPUT = "prediction"
PROBABILITY_OUTPUT = "probabilities"

_TOLERANCE = 1e-4

Rows = npt.NDArray[np.float64] | npt.NDArray[np.float32]


class Predictions(NamedTuple):
    """The answers for some rows.

    Attributes:
        values: One class code (int64) or number (float64) a row.
        probabilities: Rows by classes in the contract's order, or None.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64] | None

    def part(self, start: int, end: int) -> "Predictions":
        """The answers for the rows from ``start`` to before ``end``, as views."""
        if start == 0 and end == len(self.values):
            return self
        probabilities = self.probabilities
        return Predictions(
            self.values[start:end], None if probabilities is None else probabilities[start:end]
        )


class OnnxModel:
    """An ONNX graph with one matrix of rows by encoded features as its input."""

    def __init__(self, model: bytes, contract: Contract) -> None:
        """Load the graph for one thread, since requests are what runs in parallel.

        Raises:
            ReleaseError: onnxruntime refuses it, or its inputs or outputs do not fit the contract.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ReleaseError(f"onnxruntime cannot load the model: {error}") from error
        self._contract = contract
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.dtype = self._check_signature()
        self._is_classifier = contract.target.task == "classification"

    @property
    def has_probabilities(self) -> bool:
        """Whether the graph gives probabilities beside predictions."""
        return PROBABILITY_OUTPUT in self._outputs

    def predict(self, rows: Rows) -> Predictions:
        """Answer rows.

        Args:
            rows: Shape (rows, columns), as the contract's encoding gives them.
        """
        results = self._session.run(
            self._outputs, {INPUT_NAME: np.ascontiguousarray(rows, dtype=self.dtype)}
        )
        values = results[0].reshape(-1)
        if not self._is_classifier:
            values = values.astype(np.float64)
        probabilities = results[1].astype(np.float64) if len(results) > 1 else None
        return Predictions(values, probabilities)

    def _check_signature(self) -> type[np.float32] | type[np.float64]:
        inputs = self._session.get_inputs()
        width = encoding_of(self._contract).width
        kinds: dict[str, Any] = {"tensor(float)": np.float32, "tensor(double)": np.float64}
        fits = (
            len(inputs) == 1
            and inputs[0].name == INPUT_NAME
            and inputs[0].type in kinds
            and list(inputs[0].shape[1:]) == [width]
            and self._outputs in ([PREDICTION_OUTPUT], [PREDICTION_OUTPUT, PROBABILITY_OUTPUT])
        )
        if not fits:
            found = [(one.name, one.type, one.shape) for one in inputs]
            raise ReleaseError(
                f"The model's signature does not fit contract {self._contract.name}: expected one "
                f"input {INPUT_NAME!r} of {width} columns, found {found} giving {self._outputs}"
            )
        kind: type[np.float32] | type[np.float64] = kinds[inputs[0].type]
        return kind


class Predictor:
    """A release that was loaded and has answered its own example."""

    def __init__(self, release: Release) -> None:
        """Load and probe a release.

        Raises:
            ReleaseError: It cannot be loaded, does not fit its contract or answers its own
                example differently than the trained model did.
        """
        self.manifest: Manifest = release.manifest
        self.model = OnnxModel(release.model, release.manifest.contract)
        self._probe()

    def predict(self, rows: Rows) -> Predictions:
        """Answer rows of shape (rows, columns), as the contract's encoding gives them."""
        return self.model.predict(rows)

    def _probe(self) -> None:
        example = self.manifest.example
        answers = self.predict(encoding_of(self.manifest.contract).rows(example.rows))
        expected = np.asarray(example.predictions, dtype=np.float64)
        if self.manifest.contract.target.task == "classification":
            same = np.array_equal(answers.values, expected)
        else:
            # Answers near zero are no more exact than the largest.
            size = max(1.0, float(np.abs(expected).max()))
            same = np.allclose(answers.values, expected, rtol=0, atol=_TOLERANCE * size)
        if same and example.probabilities is not None:
            same = answers.probabilities is not None and np.allclose(
                answers.probabilities, example.probabilities, atol=_TOLERANCE
            )
        if not same or not all(math.isfinite(value) for value in answers.values.tolist()):
            raise ReleaseError(
                f"Release {self.manifest.release} answers its own example differently than the "
                f"trained model: {answers.values.tolist()} instead of {expected.tolist()}"
            )
