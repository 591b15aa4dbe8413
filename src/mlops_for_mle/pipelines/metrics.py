"""Metrics of a model on rows, by task; training and registry measure alike."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.frame_encoding import encode_frame
from mlops_for_mle.target import encode_target


def measure(model: Any, rows: pd.DataFrame, contract: Contract) -> dict[str, float]:
    """Measure a fitted model on rows of the contract.

    Returns:
        For classification ``accuracy``, ``balanced_accuracy`` and ``macro_f1``, and of a model
        with probabilities ``log_loss``, ``brier`` (halved for two classes) and, where every class
        has a row, ``roc_auc`` (one against the rest, every class weighing the same); for
        regression ``rmse``, ``mae`` and ``r2``.

    Raises:
        UserError: There are too few rows for ``r2``, which needs two, or an answer is not finite.
    """
    features = encode_frame(rows, contract)
    truth = encode_target(rows[contract.target.column], contract.target)
    found = model.predict(features)
    if contract.target.task == "regression":
        if len(rows) < 2:
            raise UserError(
                f"r2 cannot be measured on {len(rows)} row(s): ingest more rows, or choose a "
                "training.validation_fraction that leaves at least 2 on each side."
            )
        if not np.isfinite(found).all():
            raise UserError(
                f"training.estimator: the model answers {int((~np.isfinite(found)).sum())} of "
                f"{len(rows)} rows with a number that is not finite: choose another "
                "training.estimator.name or other parameters."
            )
        return {
            "rmse": float(metrics.root_mean_squared_error(truth, found)),
            "mae": float(metrics.mean_absolute_error(truth, found)),
            "r2": float(metrics.r2_score(truth, found)),
        }
    measured = {
        "accuracy": float(metrics.accuracy_score(truth, found)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(truth, found)),
        "macro_f1": float(metrics.f1_score(truth, found, average="macro")),
    }
    if hasattr(model, "predict_proba"):
        codes = np.array(contract.target.class_codes)
        measured |= _measure_probabilities(truth, model.predict_proba(features), codes)
    return measured


def _measure_probabilities(
    truth: np.ndarray, probabilities: np.ndarray, codes: np.ndarray
) -> dict[str, float]:
    measured = {
        "log_loss": float(metrics.log_loss(truth, probabilities, labels=codes)),
        "brier": _brier(truth, probabilities, codes),
    }
    if len(np.unique(truth)) == len(codes):
        is_binary = len(codes) == 2
        scores = probabilities[:, 1] if is_binary else probabilities
        options = {} if is_binary else {"multi_class": "ovr", "labels": codes}
        measured["roc_auc"] = float(metrics.roc_auc_score(truth, scores, **options))
    return measured


def _brier(truth: np.ndarray, probabilities: np.ndarray, codes: np.ndarray) -> float:
    """The mean squared difference of the probabilities from the truth."""
    happened = (truth[:, None] == codes).astype(np.float64)
    whole = float(np.mean(np.sum((probabilities - happened) ** 2, axis=1)))
    return whole / 2 if len(codes) == 2 else whole
