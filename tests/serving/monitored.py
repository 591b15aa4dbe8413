"""Monitoring runs for the tests of the server, recorded as monitoring records them."""

from datetime import UTC, datetime
from typing import Any

from mlops_for_mle.pipelines.monitoring.checks import Metric, MonitoringRun
from mlops_for_mle.pipelines.monitoring.datasets import MonitoringRunDataset
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import Database

DRIFT = "population_stability_index"
INTERVAL: dict[str, Any] = {"threshold": 0.85, "p_value": 1.0}
METRICS = (
    Metric("drift", "petal_length", DRIFT, 1.5, threshold=0.25, p_value=1e-9, severity="alarm"),
    Metric("drift", "sepal_width", DRIFT, 0.02, threshold=0.25),
    Metric("performance", "prediction", "accuracy", 0.91, 0.88, 0.93, **INTERVAL),
    Metric("estimate", "prediction", "estimated_accuracy", 0.873, 0.84, 0.9, **INTERVAL),
    Metric("data_quality", '방 수 "x"', "missing_fraction", None, threshold=0.05),
)
RUN: dict[str, Any] = {
    "contract": "iris",
    "release": "iris-v1-0123abcd",
    "model_version": 1,
    "window_from": datetime(2026, 5, 1, tzinfo=UTC),
    "window_to": datetime(2026, 5, 2, tzinfo=UTC),
    "prediction_count": 500,
    "labelled_count": 120,
    "labelled_from": None,
    "labelled_to": None,
    "status": "alarm",
    "reasons": ["Feature petal_length has drifted."],
    "metrics": METRICS,
}


def record_run(database: Database, **changes: Any) -> MonitoringRun:
    """Record a run of iris, an alarm unless told otherwise; gives it as it was recorded."""
    entry = MonitoringRunDataset(IRIS_CONTRACT.model_dump(), {"con": database.url})
    entry.save(MonitoringRun(**RUN | changes))
    return entry.load()
