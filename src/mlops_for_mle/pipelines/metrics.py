"""Metrics of a model on rows, by task; training and registry measure alike."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError


def measure(model: Any, rows: pd.DataFrame, contract: Contract) -> dict[str, float]:
    """Measure a fitted model on rows of the contract.

    Returns:
        For classification ``accuracy``, ``balanced_accuracy`` and ``macro_f1``; for regression
        ``rmse``, ``mae`` and ``r2``.

    Raises:
        UserError: There are too few rows for ``r2``, which needs two.
    """
    features = rows.loc[:, list(contract.feature_names)].astype(np.float64)
    truth = rows[contract.target.column].to_numpy()
    found = model.predict(features)
    if contract.target.task == "regression":
        if len(rows) < 2:
            raise UserError(
                f"r2 cannot be measured on {len(rows)} row(s): ingest more rows, or choose a "
                "training.validation_fraction that leaves at least 2 on each side."
            )
        return {
            "rmse": float(metrics.root_mean_squared_error(truth, found)),
            "mae": float(metrics.mean_absolute_error(truth, found)),
            "r2": float(metrics.r2_score(truth, found)),
        }
    return {
        "accuracy": float(metrics.accuracy_score(truth, found)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(truth, found)),
        "macro_f1": float(metrics.f1_score(truth, found, average="macro")),
    }
