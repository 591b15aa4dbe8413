"""Monitoring runs for the tests of the server."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs
from tests.serving.conftest import Database


def _metric(area: str, subject: str, metric: str, value: float | None, **facts: Any) -> dict:
    found = dict.fromkeys(("lower", "upper", "threshold", "p_value"))
    named = {"area": area, "subject": subject, "metric": metric, "value": value}
    return {**found, "is_alarm": False, **named, **facts}


METRICS = (
    _metric(
        *("drift", "petal_length", "population_stability_index", 1.5),
        **{"threshold": 0.25, "p_value": 1e-9, "is_alarm": True},
    ),
    _metric("drift", "petal_length", "mean_shift", 1.02),
    _metric(
        *("performance", "prediction", "accuracy", 0.91),
        **{"lower": 0.88, "upper": 0.93, "threshold": 0.85, "p_value": 1.0},
    ),
    _metric(
        *("estimate", "prediction", "estimated_accuracy", 0.873),
        **{"lower": 0.84, "upper": 0.9, "threshold": 0.85, "p_value": 1.0},
    ),
    _metric("data_quality", '방 수 "x"', "missing_fraction", None, threshold=0.05),
)


def record_run(database: Database, metrics: Any = METRICS, **changes: Any) -> Any:
    """Record a monitoring run of iris, an alarm unless told otherwise; gives its row."""
    run = {
        "contract": "iris",
        "release": "iris-v1-0123abcd",
        "model_version": 1,
        "window_from": datetime(2026, 5, 1, tzinfo=UTC),
        "window_to": datetime(2026, 5, 2, tzinfo=UTC),
        "prediction_count": 500,
        "labelled_count": 120,
        "status": "alarm",
        "reasons": ["Feature petal_length has drifted."],
    }
    with engine_for(database.url).begin() as connection:
        statement = insert(monitoring_runs).values(run | changes).returning(monitoring_runs)
        row = connection.execute(statement).one()
        for one in metrics:
            connection.execute(insert(monitoring_metrics).values(run_id=row.id, **one))
    return row
