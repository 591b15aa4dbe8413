"""The metrics that models are measured by: their names, which way is better, how they are shown.

What is measured is the model as it is served, so a version's metrics can be confirmed by anybody
who has its release and its validation rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract.model import Target, Task
from mlops_for_mle.errors import UserError
from mlops_for_mle.releases.predictor import Predictions

GREATER_IS_BETTER: Mapping[Task, Mapping[str, bool]] = {
    "classification": {
        "accuracy": True,
        "balanced_accuracy": True,
        "macro_f1": True,
        "log_loss": False,
        "roc_auc": True,
        "brier": False,
    },
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
    from sklearn import metrics

    found, codes = answers.values, target.class_codes
    if target.task == "regression":
        if not np.isfinite(found).all():
            raise UserError(
                f"The model answers {int((~np.isfinite(found)).sum())} of {len(found)} rows with "
                "a number that is not finite: choose another training.estimator or other "
                "parameters."
            )
        measured = {
            "rmse": metrics.root_mean_squared_error(truth, found),
            "mae": metrics.mean_absolute_error(truth, found),
        }
        if len(truth) > 1:
            measured["r2"] = metrics.r2_score(truth, found)
        return {name: float(value) for name, value in measured.items()}
    measured = {
        "accuracy": metrics.accuracy_score(truth, found),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, found),
        "macro_f1": metrics.f1_score(truth, found, average="macro"),
    }
    if answers.probabilities is not None:
        # Those of a float32 graph add up to 1 only nearly.
        shares = answers.probabilities / answers.probabilities.sum(axis=1, keepdims=True)
        measured["log_loss"] = metrics.log_loss(truth, shares, labels=codes)
        measured["brier"] = metrics.brier_score_loss(truth, shares, labels=codes)
        if len(np.unique(truth)) == len(codes):
            scores = shares[:, 1] if len(codes) == 2 else shares
            measured["roc_auc"] = metrics.roc_auc_score(
                truth, scores, multi_class="ovr", labels=codes
            )
    return {name: float(value) for name, value in measured.items()}


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
