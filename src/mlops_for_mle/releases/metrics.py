"""The metrics that models are measured by: their names, which way is better, how they are shown."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.model import Target, Task
from mlops_for_mle.releases.predictor import Predictions

LABEL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
"""The metrics of classes that need no probabilities."""

GREATER_IS_BETTER: Mapping[Task, Mapping[str, bool]] = {
    "classification": dict.fromkeys(LABEL_METRICS, True)
    | {"log_loss": False, "brier": False, "roc_auc": True},
    "regression": {"rmse": False, "mae": False, "r2": True},
}
ALL_METRICS = {**GREATER_IS_BETTER["classification"], **GREATER_IS_BETTER["regression"]}


def measure(predictions: Predictions, truth: npt.NDArray[Any], target: Target) -> dict[str, float]:
    """Measure predictions against the truth (see ``encode_target``) by all metrics they have.

    ``brier`` is halved for two classes; ``roc_auc`` is that of one class against the rest, every
    class weighing the same, and needs a row of each; ``r2`` needs two rows.
    """
    names = list(GREATER_IS_BETTER[target.task])
    if target.task == "regression":
        names = names if len(truth) > 1 else ["rmse", "mae"]
    elif predictions.probabilities is None:
        names = list(LABEL_METRICS)
    elif len(np.unique(truth)) < len(target.classes):
        names.remove("roc_auc")
    return {name: measure_one(name, predictions, truth, target) for name in names}


def measure_one(
    name: str, predictions: Predictions, truth: npt.NDArray[Any], target: Target
) -> float:
    """Measure predictions by one metric that they have, see ``measure``."""
    from sklearn import metrics

    by_values = {
        "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "macro_f1": partial(metrics.f1_score, average="macro"),
        "rmse": metrics.root_mean_squared_error,
        "mae": metrics.mean_absolute_error,
        "r2": metrics.r2_score,
    }
    by_probabilities = {
        "log_loss": metrics.log_loss,
        "brier": metrics.brier_score_loss,
        "roc_auc": partial(metrics.roc_auc_score, multi_class="ovr"),
    }
    if name in by_values:
        return float(by_values[name](truth, predictions.values))
    probabilities = np.asarray(predictions.probabilities)
    # Those of a float32 graph add up to 1 only nearly.
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    if name == "roc_auc" and len(target.classes) == 2:
        probabilities = probabilities[:, 1]
    return float(by_probabilities[name](truth, probabilities, labels=target.class_codes))


def baseline(truth: npt.NDArray[Any], target: Target) -> Predictions:
    """What a model predicts that has learned nothing but how frequent each answer is.

    For each row that is the most frequent class with the shares of all classes, or the mean.
    """
    if target.task == "regression":
        return Predictions(np.full(len(truth), truth.mean()), None)
    codes = np.array(target.class_codes, np.int64)
    shares = (truth[:, None] == codes).mean(axis=0)
    constant = np.full(len(truth), codes[shares.argmax()])
    return Predictions(constant, np.tile(shares, (len(truth), 1)))


def measure_baseline(truth: npt.NDArray[Any], target: Target) -> dict[str, float]:
    """The metrics of a constant answer; the mean absolute error is that of the median."""
    metrics = measure(baseline(truth, target), truth, target)
    if target.task == "regression":
        metrics["mae"] = float(np.abs(truth - np.median(truth)).mean())
    return metrics


def format_metric(value: float) -> str:
    """A metric for people: four decimals, and six digits where these would say nothing."""
    has_usual_size = value == 0 or 0.001 <= abs(value) < 1e5
    return f"{value:.4f}" if has_usual_size else f"{value:.6g}"
