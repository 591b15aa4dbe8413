"""The metrics that models are measured by: their names, which way is better, how they are shown."""

from collections.abc import Mapping

from mlops_for_mle.contract.model import Task

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

_SMALLEST_WITH_DECIMALS = 0.001
_LARGEST_WITH_DECIMALS = 1e5


def metric_text(value: float) -> str:
    """A metric for people: four decimals, and six digits where these would say nothing."""
    if value == 0 or _SMALLEST_WITH_DECIMALS <= abs(value) < _LARGEST_WITH_DECIMALS:
        return f"{value:.4f}"
    return f"{value:.6g}"
