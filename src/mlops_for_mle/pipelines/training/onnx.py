"""The served form of a fitted pipeline: an ONNX graph, and the proof that it answers alike."""

import copy
import re
import warnings
from collections.abc import Callable
from itertools import chain, combinations
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from onnx import TensorProto
from onnx.utils import Extractor
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.algebra import onnx_ops
from skl2onnx.algebra.onnx_operator import OnnxSubEstimator
from skl2onnx.common import data_types as types
from skl2onnx.common import shape_calculator as shapes
from skl2onnx.sklapi import CastTransformer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.encoding import Matrix, encoded_columns, possible_codes
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.training import estimators
from mlops_for_mle.pipelines.training.estimators import inner_estimator
from mlops_for_mle.releases.manifest import Parity
from mlops_for_mle.releases.predictor import (
    INPUT_NAME,
    PREDICTION_OUTPUT,
    PROBABILITY_OUTPUT,
    Predictions,
    Predictor,
)

_TOLERANCE = 1e-4
_PROBE_POINTS = 20_000
_FEW_VECTORS = 256
# Rarely enough to leave most points complete, often enough to meet every column many times.
_MISSING_SHARE = 0.05
# Answers that lie closer together than this share of their size are all the same.
_ROUNDING = 1e-13


def pipeline_predictions(model: Pipeline, features: pd.DataFrame) -> Predictions:
    """The predictions of the scikit-learn model, in the form of served ones."""
    with estimators.threads_for(len(features)):
        probabilities = model.predict_proba(features) if hasattr(model, "predict_proba") else None
        return Predictions(np.asarray(model.predict(features)), probabilities)


def export(model: Pipeline, features: pd.DataFrame, contract: Contract) -> tuple[Predictor, Parity]:
    """Convert to ONNX in the first precision in which the graph answers as the model does.

    Compared are all rows and a dense grid over their ranges and categories.
    """
    points = np.vstack([features, probe_points(features.to_numpy(), contract, _PROBE_POINTS)])
    expected = pipeline_predictions(model, pd.DataFrame(points, columns=features.columns))
    failures = {}
    for precision in get_args(Precision):
        try:
            predictor = Predictor(convert(model, contract, precision), contract)
            return predictor, compare(predictor.predict(points), expected)
        except Exception as error:  # noqa: BLE001  (skl2onnx raises any of what it does not know)
            failures[precision] = str(error.__cause__ or error).strip().partition("\n")[0]
    names = ", ".join(estimators.estimator_names(contract.target.task))
    raise UserError(
        f"{type(inner_estimator(model)).__name__} cannot be served as it is configured, because it "
        f"has no ONNX form that answers as it does {failures}: choose for training.estimator.name "
        f"one of {names}, or other parameters."
    )


def compare(actual: Predictions, expected: Predictions) -> Parity:
    """Compare served answers with the trained model's; a ``ReleaseError`` where they differ.

    Probabilities may do so by ``_TOLERANCE``, numbers by that share of the standard deviation of
    the trained model's answers, and classes where its two best probabilities are as close as that:
    the last bit of rounding decides a tie.
    """
    count, difference = len(expected.values), 0.0
    if actual.values.dtype.kind == "f":
        size, spread = np.abs(expected.values).max(), expected.values.std()
        unit = spread if spread > _ROUNDING * size else size or 1.0
        difference = float(np.abs(actual.values - expected.values).max() / unit)
    else:
        is_wrong = actual.values != expected.values
        if actual.probabilities is not None and expected.probabilities is not None:
            difference = float(np.abs(actual.probabilities - expected.probabilities).max())
            best = np.sort(expected.probabilities, axis=1)[:, -2:]
            is_wrong &= best[:, 1] - best[:, 0] > _TOLERANCE
        if is_wrong.any():
            raise ReleaseError(f"{is_wrong.sum()} of {count} predictions differ")
    # An answer that is no number differs, too.
    if not difference <= _TOLERANCE:
        raise ReleaseError(f"answers differ by up to {difference:.2g}")
    return Parity(point_count=count, largest_difference=difference)


def probe_points(values: Matrix, contract: Contract, point_count: int) -> Matrix:
    """Points whose columns each spread evenly over what they may hold, in random order."""
    random = np.random.default_rng(0)
    columns = encoded_columns(contract)
    points = np.zeros((point_count, len(columns)))
    for index, column in enumerate(columns):
        feature = contract.features[column.source]
        present = values[~np.isnan(values[:, index]), index]
        if feature.type in ("boolean", "category"):
            spread = np.resize(possible_codes(feature), point_count)
        elif len(present):
            spread = np.linspace(present.min(), present.max(), point_count)
            is_whole = feature.is_time or feature.type == "integer"
            spread = np.round(spread) if is_whole else spread
        else:
            continue
        points[:, index] = random.permutation(spread)
        if feature.is_optional and feature.missing != "separate":
            points[random.random(point_count) < _MISSING_SHARE, index] = np.nan
    return points


def convert(model: Pipeline, contract: Contract, precision: Precision) -> bytes:
    """Make the graph: one matrix in, predictions and, where there are any, probabilities out."""
    is_classifier = contract.target.task == "classification"
    # With their types, because skl2onnx 1.20 mistakes those of some trees.
    outputs = [(PREDICTION_OUTPUT, types.DoubleTensorType())]
    if is_classifier:
        outputs = [(PREDICTION_OUTPUT, types.Int64TensorType())]
        outputs.append((PROBABILITY_OUTPUT, types.FloatTensorType()))
    input_type = types.FloatTensorType if precision == "float32" else types.DoubleTensorType
    prepared = _prepared(model)
    options: dict[int, Any] = {id(prepared): {"zipmap": False}} if is_classifier else {}
    inner = inner_estimator(prepared)
    if isinstance(prepared.steps[-1][1], CalibratedClassifierCV):
        options[id(inner)] = {"zipmap": False}
        if hasattr(inner, "decision_function"):
            options[id(inner)]["raw_scores"] = True
    # Not always: skl2onnx would call the converter for a part of its own form, too.
    few_vectors = {SVC: _convert_svc} if _has_few_vectors(inner) else {}
    opset = None
    if type(inner).__module__.startswith("lightgbm"):
        _register_lightgbm()
        # onnxmltools 1.16 knows no later trees.
        opset = {"": 18, "ai.onnx.ml": 3}
    with warnings.catch_warnings():
        # skl2onnx 1.20 reads attributes of SVC that scikit-learn 1.9 deprecates.
        warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
        converted = convert_sklearn(
            prepared,
            name=contract.name,
            initial_types=[(INPUT_NAME, input_type([None, len(encoded_columns(contract))]))],
            final_types=outputs,
            options=options,
            target_opset=opset,
            custom_conversion_functions=_CONVERTERS | few_vectors,
            custom_shape_calculators=_CALCULATORS,
        )
    if is_classifier and not hasattr(model, "predict_proba"):
        # What decision functions answer are no probabilities.
        wanted = [INPUT_NAME], [PREDICTION_OUTPUT]
        converted = Extractor(converted).extract_model(*wanted)
    # They come in the order of a set, by which the same model would have several digests.
    converted.opset_import.sort(key=lambda entry: entry.domain)
    return bytes(converted.SerializeToString())


def _prepared(model: Pipeline) -> Pipeline:
    """The model as skl2onnx understands its rounding, with thresholds that float32 can hold.

    Those of boosted trees are rounded down, so that comparisons with float32 have the same outcome
    as before; to the nearest would send values on a threshold to the other side.
    """
    prepared = copy.deepcopy(model)
    inner = inner_estimator(prepared)
    if isinstance(inner, VotingClassifier | VotingRegressor):
        inner.estimators_ = [_prepared(member) for member in inner.estimators_]
    if estimators.ROUND not in model.named_steps:
        return prepared
    prepared.set_params(**{estimators.ROUND: CastTransformer(dtype=np.float32)})
    for predictor in chain.from_iterable(getattr(inner, "_predictors", ())):
        exact = predictor.nodes["num_threshold"]
        predictor.nodes["num_threshold"] = _rounded_down(exact)
    if type(inner).__module__.startswith("lightgbm"):
        from lightgbm import Booster

        # Without the sizes of the trees in bytes, which change.
        lines = re.sub(r"tree_sizes=.*\n", "", inner.booster_.model_to_string()).split("\n")
        for index, line in enumerate(lines):
            if line.startswith("threshold="):
                exact = np.array(line.removeprefix("threshold=").split(), np.float64)
                lines[index] = "threshold=" + " ".join(map(repr, _rounded_down(exact).tolist()))
        inner._Booster = Booster(model_str="\n".join(lines))
    return prepared


def _rounded_down(exact: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    nearest = exact.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > exact, below, nearest).astype(np.float64)


def _register_lightgbm() -> None:
    """Make skl2onnx know what onnxmltools converts, also as scores that are no probabilities."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    def convert(scope: Any, operator: Any, container: Any) -> None:
        convert_lightgbm(scope, operator, container)
        if container.get_options(operator.raw_operator, {}).get("raw_scores"):
            for attribute in chain.from_iterable(node.attribute for node in container.nodes):
                if attribute.name == "post_transform":
                    attribute.s = b"NONE"

    classes = {"zipmap": [True, False], "nocl": [True, False], "raw_scores": [True, False]}
    for model_class, shape, options in (
        (LGBMClassifier, shapes.calculate_linear_classifier_output_shapes, classes),
        (LGBMRegressor, shapes.calculate_linear_regressor_output_shapes, {"split": None}),
    ):
        name = f"LightGbm{model_class.__name__}"
        update_registered_converter(model_class, name, shape, convert, options=options)


def _operators(container: Any) -> Callable[..., Any]:
    """Makes operators of the graph's version, by their names in ONNX."""
    version = container.target_opset
    return lambda name, *inputs, **attributes: getattr(onnx_ops, f"Onnx{name}")(
        *inputs, op_version=version, **attributes
    )


def _add_outputs(scope: Any, operator: Any, container: Any, votes: Any, scores: Any) -> None:
    """End a classifier: the class with the most votes, and the scores of all."""
    op, (label, all_scores) = _operators(container), operator.outputs
    best = op("ArgMax", votes, axis=1, keepdims=0)
    codes = operator.raw_operator.classes_.astype(np.int64)
    op("ArrayFeatureExtractor", codes, best, output_names=[label]).add_to(scope, container)
    op("Identity", scores, output_names=[all_scores]).add_to(scope, container)


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """ONNX's own imputer keeps statistics in float32 and has no float64 form in onnxruntime."""
    matrix, op = operator.inputs[0], _operators(container)
    statistics = operator.raw_operator.statistics_.astype(types.guess_numpy_type(matrix.type))
    filled = (op("IsNaN", matrix), statistics[None, :], matrix)
    op("Where", *filled, output_names=operator.outputs[:1]).add_to(scope, container)


def _has_few_vectors(model: Any) -> bool:
    """Whether a model is a support vector classifier of the usual form, and small."""
    return (
        isinstance(model, SVC)
        and len(model.support_vectors_) <= _FEW_VECTORS
        and (model.kernel, model.decision_function_shape) == ("rbf", "ovr")
        and model.probability is not True
        and not model.break_ties
    )


def _convert_svc(scope: Any, operator: Any, container: Any) -> None:
    """Products of matrices, which take a third of the time of ONNX's own support vectors.

    ``exp(-gamma |x - v|²)`` is written out, in float64, for it is a small difference of squares.
    Scores and votes are those of ``sklearn.utils.multiclass._ovr_decision_function``.
    """
    model, matrix, op = operator.raw_operator, operator.inputs[0], _operators(container)
    dtype, proto_type = types.guess_numpy_type(matrix.type), types.guess_proto_type(matrix.type)
    vectors, gamma, count = model.support_vectors_, model._gamma, len(model.classes_)
    pairs, owners = [*combinations(range(count), 2)], np.repeat(np.arange(count), model.n_support_)
    weights, signs = np.zeros((len(vectors), len(pairs))), np.zeros((len(pairs), count))
    for index, (first, second) in enumerate(pairs):
        weights[owners == first, index] = model.dual_coef_[second - 1, owners == first]
        weights[owners == second, index] = model.dual_coef_[first, owners == second]
        signs[index, [first, second]] = 1, -1
    # scikit-learn turns the signs of two classes.
    sign = -1 if count == 2 else 1
    coefficients = [(sign * values).astype(dtype) for values in (weights, model.intercept_)]
    wide = op("Cast", matrix, to=TensorProto.DOUBLE)
    products = op("Gemm", wide, 2 * gamma * vectors.T, -gamma * (vectors**2).sum(axis=1))
    squares = (op("Mul", wide, wide), np.full(vectors.T.shape, -gamma))
    kernel = op("Exp", op("Cast", op("Gemm", *squares, products), to=proto_type))
    decisions = op("Gemm", kernel, *coefficients)
    is_second = op("Cast", op("Less", decisions, np.array([0], dtype)), to=proto_type)
    firsts = np.arange(count)[::-1].astype(dtype)
    votes = op("Gemm", is_second, (-signs).astype(dtype), firsts)
    scores = op("MatMul", decisions, signs.astype(dtype))
    if count > 2:
        three = np.array([3], dtype)
        size = op("Add", op("Mul", op("Abs", scores), three), three)
        scores = op("Add", votes, op("Div", scores, size))
    _add_outputs(scope, operator, container, votes, scores)


def _convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Sigmoid or temperature on what the model calibrates from; skl2onnx 1.20 has no temperature.

    That is its decision function where it has one. Of probabilities scikit-learn takes the
    logarithm before it divides by the temperature. A sigmoid is the softmax of zero and a score.
    """
    matrix, op = operator.inputs[0], _operators(container)
    (fitted,) = operator.raw_operator.calibrated_classifiers_
    dtype, inner = types.guess_numpy_type(matrix.type), fitted.estimator
    (calibrator, *_) = fitted.calibrators
    scores = OnnxSubEstimator(inner, matrix, op_version=container.target_opset)[1]
    if fitted.method == "sigmoid":
        scale = np.array([0.0, -calibrator.a_], dtype)
        shift = np.array([0.0, -calibrator.b_], dtype)
        logits = op("Add", op("Mul", scores, scale), shift)
    else:
        scores = scores if hasattr(inner, "decision_function") else op("Log", scores)
        logits = op("Mul", scores, np.array([calibrator.beta_], dtype))
    probabilities = op("Softmax", logits, axis=1)
    _add_outputs(scope, operator, container, probabilities, probabilities)


def _convert_scaled_target(scope: Any, operator: Any, container: Any) -> None:
    """Turns a scaled prediction back into the target's unit, in float64."""
    model, op, version = operator.raw_operator, _operators(container), container.target_opset
    scaled = OnnxSubEstimator(model.regressor_, operator.inputs[0], op_version=version)
    stretched = op("Mul", op("Cast", scaled, to=TensorProto.DOUBLE), model.transformer_.scale_)
    shifted = op("Add", stretched, model.transformer_.mean_, output_names=operator.outputs[:1])
    shifted.add_to(scope, container)


def _shape_of_target(operator: Any) -> None:
    operator.outputs[0].type = types.DoubleTensorType([None, 1])


_CONVERTERS: dict[type, Any] = {
    CalibratedClassifierCV: _convert_calibrated,
    SimpleImputer: _convert_imputer,
    TransformedTargetRegressor: _convert_scaled_target,
}
_CALCULATORS: dict[type, Any] = {
    TransformedTargetRegressor: _shape_of_target,
    VotingRegressor: _shape_of_target,
}
