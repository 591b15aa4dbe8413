"""Monitoring runs for the tests of the server."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert

from mlops_for_mle.database import engine_for
from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs
from mlops_for_mle.serving.stores.monitoring_store import MonitoringMetric, MonitoringRun
from tests.serving.conftest import Database

METRICS = (
    MonitoringMetric(
        "drift", "petal_length", "population_stability_index", 1.5, None, None, 0.25, 1e-9, True
    ),
    MonitoringMetric("drift", "petal_length", "mean_shift", 1.02),
    MonitoringMetric("performance", "prediction", "accuracy", 0.91, 0.88, 0.93, 0.85, 1.0, False),
    MonitoringMetric("data_quality", '방 수 "x"', "missing_fraction", None, threshold=0.05),
)


def record_run(database: Database, **changes: Any) -> MonitoringRun:
    """Record a monitoring run of iris, an alarm unless told otherwise."""
    run = MonitoringRun(
        id=None,
        contract="iris",
        release="iris-v1-0123abcd",
        model_version=1,
        window_from=datetime(2026, 5, 1, tzinfo=UTC),
        window_to=datetime(2026, 5, 2, tzinfo=UTC),
        prediction_count=500,
        labelled_count=120,
        status="alarm",
        reasons=("Feature petal_length has drifted.",),
        metrics=METRICS,
    )
    run = run._replace(**changes)
    values = run._asdict() | {"reasons": list(run.reasons)}
    for name in ("id", "created_at", "metrics"):
        del values[name]
    with engine_for(database.url).begin() as connection:
        statement = insert(monitoring_runs).values(values)
        made = connection.execute(statement.returning(*monitoring_runs.c)).one()
        metrics = [{"run_id": made.id, **one._asdict()} for one in run.metrics]
        if metrics:
            connection.execute(insert(monitoring_metrics), metrics)
    return run._replace(id=made.id, created_at=made.created_at)
