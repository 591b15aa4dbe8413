"""The metrics that models are measured by: their names, and whether more of them is better."""

from collections.abc import Mapping

from mlops_for_mle.contract import Task

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
