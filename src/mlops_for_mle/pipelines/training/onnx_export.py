"""Finds the ONNX form that answers as the trained pipeline does, and shows that it does."""

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline as SklearnPipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.training.estimator import model_input, understood
from mlops_for_mle.pipelines.training.menu import names_for
from mlops_for_mle.pipelines.training.onnx_conversion import convert, estimator_name
from mlops_for_mle.pipelines.training.parity_grid import grid
from mlops_for_mle.pipelines.training.preprocessing import ROUND
from mlops_for_mle.predictor import OnnxModel, Predictions
from mlops_for_mle.records import OnnxExport
from mlops_for_mle.release import Parity, Precision

__all__ = ["compare", "convert", "estimator_name", "export", "grid", "trained_answers"]

TOLERANCE = 1e-4
# Answers that lie closer together than this share of their size are all the same.
_ROUNDING = 1e-13
# The third form rounds to float32 between scaler and estimator, as scikit-learn's trees do.
FORMS: tuple[tuple[Precision, bool], ...] = (
    ("float32", False),
    ("float64", False),
    ("float64", True),
)


def export(model: SklearnPipeline, rows: pd.DataFrame, contract: Contract) -> OnnxExport:
    """Convert to the first of ``FORMS`` that answers as the model does on every checked point.

    Checked are all rows of the snapshot and a dense grid over their ranges and categories.

    Raises:
        UserError: The estimator cannot be converted, or answers differ in every form.
    """
    points = np.vstack([model_input(rows, contract).to_numpy(), grid(rows, contract)])
    expected = trained_answers(model, points, contract)
    failures = []
    # What rounds by itself, after float64, has only one form that rounds the same values.
    forms = FORMS[-1:] if ROUND in model.named_steps else FORMS
    for precision, is_rounded in forms:
        graph = convert(model, contract, precision, is_rounded)
        try:
            parity, failure = compare(OnnxModel(graph, contract), expected, points, contract)
            if failure is None:
                return OnnxExport(graph, precision, parity)
        except ReleaseError as error:
            # skl2onnx 1.20 makes a graph of mixed types of a single regression tree in float64.
            failure = str(error)
        failures.append(f"{precision}{' rounded to float32' * is_rounded}: {failure}")
    raise UserError(
        f"The ONNX form of {estimator_name(model)} answers otherwise than the model itself "
        f"({'; '.join(failures)}). Choose for training.estimator.name one of "
        f"{', '.join(names_for(contract.target.task))}."
    )


def compare(
    served: OnnxModel, expected: Predictions, points: np.ndarray, contract: Contract
) -> tuple[Parity, str | None]:
    """Compare the served form's answers with the trained model's.

    Probabilities may differ by ``TOLERANCE``, numbers by that share of the standard deviation of
    the trained model's answers, classes not at all; except that, where the trained model's two
    best probabilities are as close as that, either class is right: a tie is decided by the last
    bit of rounding.

    Returns:
        What was measured, and what is wrong, if anything.
    """
    found = served.predict(points)
    if contract.target.task == "regression":
        difference = float(np.max(np.abs(found.values - expected.values)) / _spread(expected))
        # An answer that is no number differs, too.
        wrong = not difference <= TOLERANCE
    else:
        difference = 0.0
        if expected.probabilities is not None and found.probabilities is not None:
            difference = float(np.max(np.abs(found.probabilities - expected.probabilities)))
        different = int(np.count_nonzero((found.values != expected.values) & ~_ties(expected)))
        wrong = different > 0 or not difference <= TOLERANCE
        if different:
            return Parity(point_count=len(points), largest_difference=difference), (
                f"{different} of {len(points)} predictions differ"
            )
    parity = Parity(point_count=len(points), largest_difference=difference)
    return parity, f"answers differ by up to {difference:.2g}" if wrong else None


def _spread(expected: Predictions) -> float:
    """How far answers lie apart, or how large they are where rounding alone tells them apart."""
    size = float(np.max(np.abs(expected.values)))
    spread = float(np.std(expected.values))
    return spread if spread > _ROUNDING * size else size or 1.0


def _ties(expected: Predictions) -> np.ndarray:
    """Rows whose two best probabilities are too close to tell which is the best."""
    if expected.probabilities is None:
        return np.zeros(len(expected.values), dtype=bool)
    best = np.sort(expected.probabilities, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] <= TOLERANCE)


def trained_answers(model: SklearnPipeline, points: np.ndarray, contract: Contract) -> Predictions:
    """What the scikit-learn model answers, in the form of a served answer.

    Raises:
        ConfigurationError: It cannot answer.
    """
    frame = pd.DataFrame(points, columns=list(encoding_of(contract).names))
    with understood(estimator_name(model), contract):
        probabilities = model.predict_proba(frame) if hasattr(model, "predict_proba") else None
        return Predictions(np.asarray(model.predict(frame)), probabilities)
