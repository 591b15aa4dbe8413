"""The metrics that models are measured by: their names, which way is better, how they are shown.

What is measured is the model as it is served, so a version's metrics can be confirmed by anybody
who has its release and its validation rows.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.model import Target, Task
from mlops_for_mle.releases.predictor import Predictions

DECIDED_BY_VALUES = ("accuracy", "balanced_accuracy", "macro_f1")
"""The metrics of classes that need no probabilities."""

GREATER_IS_BETTER: Mapping[Task, Mapping[str, bool]] = {
    "classification": dict.fromkeys(DECIDED_BY_VALUES, True)
    | {"log_loss": False, "brier": False, "roc_auc": True},
    "regression": {"rmse": False, "mae": False, "r2": True},
}
ALL_METRICS: Mapping[str, bool] = {
    name: direction for metrics in GREATER_IS_BETTER.values() for name, direction in metrics.items()
}


def measure(answers: Predictions, truth: npt.NDArray[Any], target: Target) -> dict[str, float]:
    """Measure answers against the truth, which is as ``encode_target`` gives it.

    Returns:
        For classification ``accuracy``, ``balanced_accuracy`` and ``macro_f1``, and of a model
        with probabilities ``log_loss``, ``brier`` (halved for two classes) and, where every class
        has a row, ``roc_auc`` (one against the rest, every class weighing the same); for
        regression ``rmse``, ``mae`` and, of two rows or more, ``r2``.
    """
    names = list(GREATER_IS_BETTER[target.task])
    if target.task == "regression":
        names = names if len(truth) > 1 else ["rmse", "mae"]
    elif answers.probabilities is None:
        names = list(DECIDED_BY_VALUES)
    elif len(np.unique(truth)) < len(target.classes):
        names.remove("roc_auc")
    return {name: measure_one(name, answers, truth, target) for name in names}


def measure_one(name: str, answers: Predictions, truth: npt.NDArray[Any], target: Target) -> float:
    """Measure answers by one metric that they have, see ``measure``."""
    from sklearn import metrics

    found, codes = answers.values, target.class_codes
    value: float
    if name in DECIDED_BY_VALUES or not codes:
        by_values = {
            "accuracy": metrics.accuracy_score,
            "balanced_accuracy": metrics.balanced_accuracy_score,
            "macro_f1": partial(metrics.f1_score, average="macro"),
            "rmse": metrics.root_mean_squared_error,
            "mae": metrics.mean_absolute_error,
            "r2": metrics.r2_score,
        }
        value = by_values[name](truth, found)
    else:
        chances = np.asarray(answers.probabilities)
        # Those of a float32 graph add up to 1 only nearly.
        shares = chances / chances.sum(axis=1, keepdims=True)
        if name == "log_loss":
            value = metrics.log_loss(truth, shares, labels=codes)
        elif name == "brier":
            value = metrics.brier_score_loss(truth, shares, labels=codes)
        else:
            scores = shares[:, 1] if len(codes) == 2 else shares
            value = metrics.roc_auc_score(truth, scores, multi_class="ovr", labels=codes)
    return float(value)


def baseline(truth: npt.NDArray[Any], target: Target) -> Predictions:
    """For each row the most frequent class with the shares of all, or the mean.

    So a model answers that has learned nothing but how often each answer occurs.
    """
    if target.task == "regression":
        return Predictions(np.full(len(truth), truth.mean()), None)
    codes = np.array(target.class_codes, np.int64)
    shares = (truth[:, None] == codes).mean(axis=0)
    constant = np.full(len(truth), codes[shares.argmax()])
    return Predictions(constant, np.tile(shares, (len(truth), 1)))


def metric_text(value: float) -> str:
    """A metric for people: four decimals, and six digits where these would say nothing."""
    has_usual_size = value == 0 or 0.001 <= abs(value) < 1e5
    return f"{value:.4f}" if has_usual_size else f"{value:.6g}"
