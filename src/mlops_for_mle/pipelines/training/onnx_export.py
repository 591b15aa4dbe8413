"""Turns a fitted pipeline into an ONNX graph and shows that both answer alike."""

import itertools
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline as SklearnPipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.training.estimator import STEP, model_input
from mlops_for_mle.predictor import (
    INPUT_NAME,
    PREDICTION_OUTPUT,
    PROBABILITY_OUTPUT,
    OnnxModel,
    Predictions,
)
from mlops_for_mle.records import OnnxExport
from mlops_for_mle.release import Parity, Precision

TOLERANCE = 1e-4
GRID_POINTS = 20_000
# The third form rounds to float32 between scaler and estimator, as scikit-learn's trees do.
FORMS: tuple[tuple[Precision, bool], ...] = (
    ("float32", False),
    ("float64", False),
    ("float64", True),
)


def export(model: SklearnPipeline, rows: pd.DataFrame, contract: Contract) -> OnnxExport:
    """Convert to the first of ``FORMS`` that answers as the model does on every checked point.

    Checked are all rows of the snapshot and a dense grid over the contract's ranges.

    Raises:
        UserError: The estimator cannot be converted, or answers differ in every form.
    """
    points = np.vstack([model_input(rows, contract).to_numpy(), grid(rows, contract)])
    expected = trained_answers(model, points, contract)
    failures = []
    for precision, is_rounded in FORMS:
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
        f"({'; '.join(failures)}). Choose another training.estimator."
    )


def convert(
    model: SklearnPipeline, contract: Contract, precision: Precision, is_rounded: bool = False
) -> bytes:
    """Make the ONNX graph: one matrix in, predictions and, where there are any, probabilities out.

    Args:
        model: The fitted pipeline.
        contract: Names the graph and says how many features there are.
        precision: The element type of the graph's input.
        is_rounded: Whether the estimator, which is the last step, is handed float32.

    Raises:
        UserError: skl2onnx cannot convert the estimator.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    kind = FloatTensorType if precision == "float32" else DoubleTensorType
    is_classifier = contract.target.task == "classification"
    if is_rounded:
        model = _round_before_last_step(model)
    try:
        with warnings.catch_warnings():
            # skl2onnx 1.20 reads attributes of SVC that scikit-learn 1.9 deprecates.
            warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
            converted = convert_sklearn(
                model,
                name=contract.name,
                initial_types=[(INPUT_NAME, kind([None, len(contract.features)]))],
                options={id(model): {"zipmap": False}} if is_classifier else None,
            )
    except (MissingConverter, MissingShapeCalculator):
        raise UserError(
            f"{estimator_name(model)} has no ONNX form, so it cannot be served. Choose for "
            "training.estimator one that skl2onnx supports, such as sklearn.svm.SVC, "
            "sklearn.linear_model.LogisticRegression or sklearn.ensemble.RandomForestClassifier."
        ) from None
    except (NameError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(
            f"skl2onnx cannot convert {type(model.steps[-1][1]).__name__} as it is configured, so "
            f"it cannot be served: {reason}. Choose another training.estimator or parameters."
        ) from error
    names = [PREDICTION_OUTPUT]
    if is_classifier and hasattr(model, "predict_proba"):
        names.append(PROBABILITY_OUTPUT)
    return bytes(_keep_outputs(converted, names).SerializeToString())


def compare(
    served: OnnxModel, expected: Predictions, points: np.ndarray, contract: Contract
) -> tuple[Parity, str | None]:
    """Compare the served form's answers with the trained model's.

    Returns:
        What was measured, and what is wrong, if anything.
    """
    found = served.predict(points)
    if contract.target.task == "regression":
        scale = np.maximum(1.0, np.abs(expected.values))
        difference = float(np.max(np.abs(found.values - expected.values) / scale))
        wrong = difference > TOLERANCE
    else:
        difference = 0.0
        if expected.probabilities is not None and found.probabilities is not None:
            difference = float(np.max(np.abs(found.probabilities - expected.probabilities)))
        different = int(np.count_nonzero(found.values != expected.values))
        wrong = different > 0 or difference > TOLERANCE
        if different:
            return Parity(point_count=len(points), largest_difference=difference), (
                f"{different} of {len(points)} predictions differ"
            )
    parity = Parity(point_count=len(points), largest_difference=difference)
    return parity, f"answers differ by up to {difference:.2g}" if wrong else None


def trained_answers(model: SklearnPipeline, points: np.ndarray, contract: Contract) -> Predictions:
    """What the scikit-learn model answers, in the form of a served answer."""
    frame = pd.DataFrame(points, columns=list(contract.feature_names))
    probabilities = model.predict_proba(frame) if hasattr(model, "predict_proba") else None
    return Predictions(np.asarray(model.predict(frame)), probabilities)


def grid(rows: pd.DataFrame, contract: Contract, point_count: int = GRID_POINTS) -> np.ndarray:
    """Points that cover the range of each feature in the rows, its ends included.

    A full lattice where few features allow one; a Latin square of evenly spread points otherwise.
    """
    width = len(contract.features)
    values = model_input(rows, contract).to_numpy()
    low, high = values.min(axis=0), values.max(axis=0)
    steps = int(point_count ** (1 / width))
    if steps >= 3:
        axes = [np.linspace(a, b, steps) for a, b in zip(low, high, strict=True)]
        return np.array(list(itertools.product(*axes)))
    spread = np.random.default_rng(0).permuted(
        np.tile(np.linspace(0, 1, point_count), (width, 1)), axis=1
    )
    return np.asarray(low + spread.T * (high - low))


def estimator_name(model: SklearnPipeline) -> str:
    """The class of the pipeline's estimator."""
    return type(model.named_steps[STEP]).__name__


def _round_before_last_step(model: SklearnPipeline) -> SklearnPipeline:
    from skl2onnx.sklapi import CastTransformer

    *before, last = model.steps
    return SklearnPipeline([*before, ("round", CastTransformer(dtype=np.float32)), last])


def _keep_outputs(model: Any, names: list[str]) -> Any:
    """Rename the first outputs of a graph and drop all that only the others need."""
    graph = model.graph
    renamed = {output.name: name for output, name in zip(graph.output, names, strict=False)}
    kept = [output for output in graph.output if output.name in renamed]
    for part in graph.node:
        for slots in (part.input, part.output):
            for index, slot in enumerate(slots):
                slots[index] = renamed.get(slot, slot)
    for output in kept:
        output.name = renamed[output.name]
    needed = {output.name for output in kept}
    nodes = []
    for part in reversed(graph.node):
        if needed & set(part.output):
            needed |= set(part.input)
            nodes.append(part)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    for collection, items in (
        (graph.output, kept),
        (graph.node, nodes[::-1]),
        (graph.initializer, weights),
    ):
        del collection[:]
        collection.extend(items)
    return model
