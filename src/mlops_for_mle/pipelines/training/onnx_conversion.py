"""Converts a fitted pipeline to an ONNX graph with one matrix as its input."""

import copy
import warnings
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline as SklearnPipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training.estimator import inner_estimator
from mlops_for_mle.pipelines.training.menu import names_for
from mlops_for_mle.pipelines.training.preprocessing import ROUND
from mlops_for_mle.predictor import INPUT_NAME, PREDICTION_OUTPUT, PROBABILITY_OUTPUT
from mlops_for_mle.release import Precision


def convert(
    model: SklearnPipeline, contract: Contract, precision: Precision, is_rounded: bool = False
) -> bytes:
    """Make the ONNX graph: one matrix in, predictions and, where there are any, probabilities out.

    Args:
        model: The fitted pipeline.
        contract: Names the graph and says how many columns the matrix has.
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
    allowed = ", ".join(names_for(contract.target.task))
    prepared = _prepare(model, is_rounded)
    try:
        with warnings.catch_warnings():
            # skl2onnx 1.20 reads attributes of SVC that scikit-learn 1.9 deprecates.
            warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
            converted = convert_sklearn(
                prepared,
                name=contract.name,
                initial_types=[(INPUT_NAME, kind([None, encoding_of(contract).width]))],
                options={id(prepared): {"zipmap": False}} if is_classifier else None,
                custom_conversion_functions={SimpleImputer: _convert_imputer},
                custom_shape_calculators={SimpleImputer: _shape_of_imputer},
            )
    except (MissingConverter, MissingShapeCalculator):
        raise UserError(
            f"{estimator_name(model)} has no ONNX form, so it cannot be served. Choose for "
            f"training.estimator.name one of {allowed}, or a class_path that skl2onnx supports."
        ) from None
    except (KeyError, NameError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(
            f"skl2onnx cannot convert {estimator_name(model)} as it is configured, so "
            f"it cannot be served: {reason}. Choose other training.estimator.parameters, or for "
            f"training.estimator.name one of {allowed}."
        ) from error
    names = [PREDICTION_OUTPUT]
    if is_classifier and hasattr(model, "predict_proba"):
        names.append(PROBABILITY_OUTPUT)
    graph = _keep_outputs(converted, names)
    scaler = getattr(model.steps[-1][1], "transformer_", None)
    if scaler is not None:
        _restore_target(graph.graph, float(scaler.scale_[0]), float(scaler.mean_[0]))
    # Their order comes from a set of names; with it, the same model would have several digests.
    graph.opset_import.sort(key=lambda one: one.domain)
    return bytes(graph.SerializeToString())


def estimator_name(model: SklearnPipeline) -> str:
    """The class of the pipeline's estimator."""
    return type(inner_estimator(model)).__name__


def _prepare(model: SklearnPipeline, is_rounded: bool) -> SklearnPipeline:
    """The pipeline with its rounding, if any, as skl2onnx understands it."""
    from skl2onnx.sklapi import CastTransformer

    *before, (name, _) = model.steps
    estimator = inner_estimator(model)
    kept = [step for step in before if step[0] != ROUND]
    if is_rounded:
        kept.append((ROUND, CastTransformer(dtype=np.float32)))
    return SklearnPipeline([*kept, (name, _with_float32_thresholds(estimator))])


def _with_float32_thresholds(estimator: Any) -> Any:
    """A histogram gradient boosting's copy with its thresholds rounded down to float32.

    Other estimators are given back as they are.

    For values that are float32 themselves each comparison has the same outcome as before, while
    rounding to the nearest would send those on a threshold to the other side.
    """
    if not hasattr(estimator, "_predictors"):
        return estimator
    rounded = copy.deepcopy(estimator)
    for iteration in rounded._predictors:
        for predictor in iteration:
            exact = predictor.nodes["num_threshold"]
            nearest = exact.astype(np.float32)
            below = np.nextafter(nearest, np.float32(-np.inf))
            predictor.nodes["num_threshold"] = np.where(nearest > exact, below, nearest)
    return rounded


def _shape_of_imputer(operator: Any) -> None:
    given = operator.inputs[0].type
    operator.outputs[0].type = type(given)([None, given.shape[1]])


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """ONNX's own imputer keeps statistics in float32 and has no float64 form in onnxruntime."""
    from skl2onnx.algebra.onnx_ops import OnnxIsNaN, OnnxWhere
    from skl2onnx.common.data_types import guess_numpy_type

    given = operator.inputs[0]
    version = container.target_opset
    learned = operator.raw_operator.statistics_.astype(guess_numpy_type(given.type))
    filled = OnnxWhere(
        OnnxIsNaN(given, op_version=version),
        learned[None, :],
        given,
        op_version=version,
        output_names=operator.outputs[:1],
    )
    filled.add_to(scope, container)


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


def _restore_target(graph: Any, scale: float, mean: float) -> None:
    """Append what turns a scaled prediction back into the target's unit, in float64."""
    from onnx import TensorProto, helper

    (output,) = graph.output
    scaled, wide, stretched = (f"{output.name}_{one}" for one in ("scaled", "wide", "stretched"))
    for part in graph.node:
        for index, slot in enumerate(part.output):
            part.output[index] = scaled if slot == output.name else slot
    for name, value in (("target_scale", scale), ("target_mean", mean)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.DOUBLE, [1], [value]))
    graph.node.extend(
        [
            helper.make_node("Cast", [scaled], [wide], name="widen", to=TensorProto.DOUBLE),
            helper.make_node("Mul", [wide, "target_scale"], [stretched], name="stretch"),
            helper.make_node("Add", [stretched, "target_mean"], [output.name], name="shift"),
        ]
    )
    output.type.tensor_type.elem_type = TensorProto.DOUBLE
