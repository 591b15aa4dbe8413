"""``GET /monitoring``: how the deployed release does, as the monitoring pipeline has found.

Prometheus gets the numbers of the newest run, from the database and so the same in every process.
"""

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from fastapi import APIRouter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.deployments import Before, Limit, followed_contract
from mlops_for_mle.serving.errors import ProblemError
from mlops_for_mle.serving.openapi import problems

if TYPE_CHECKING:
    from sqlalchemy import Connection

Status = Literal["insufficient", "healthy", "warning", "alarm"]
Area = Literal["data_quality", "drift", "performance", "calibration"]

# Between two looks of a scraper at the database.
_FRESH_SECONDS = 5.0

# A run that looks back, at a window that ended before one that was seen earlier, is not the newest.
_NEWEST = """
SELECT * FROM monitoring_runs AS runs WHERE contract = :contract AND NOT EXISTS (
    SELECT FROM monitoring_runs AS earlier
    WHERE earlier.contract = runs.contract AND earlier.release = runs.release
      AND earlier.id < runs.id AND earlier.window_to > runs.window_to)
ORDER BY id DESC LIMIT 1
"""
_METRICS = "SELECT * FROM monitoring_metrics WHERE run_id = :id ORDER BY area, subject, metric"
_RUNS = """
SELECT * FROM monitoring_runs
WHERE contract = :contract AND (CAST(:before AS bigint) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
"""


class MonitoringMetric(BaseModel):
    """One number of a run.

    Attributes:
        area: What it is about.
        subject: A feature's name, a class, or what else was looked at.
        metric: What was measured.
        value: None where there was nothing to measure.
        lower: The lower end of the confidence interval.
        upper: Its upper end.
        threshold: What the value was compared with.
        p_value: Of the test behind an alarm, corrected for all tests of the run.
        is_alarm: Whether the value alone makes the run an alarm.
    """

    area: Area
    subject: str
    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    threshold: float | None
    p_value: float | None
    is_alarm: bool


class MonitoringRun(BaseModel):
    """One look at the deployed release.

    Attributes:
        id: Its number.
        release: The release whose predictions were looked at.
        model_version: Its version in the registry.
        window_from: When the first of them was answered; None without any.
        window_to: When the last one was.
        prediction_count: How many.
        labelled_count: How many labelled predictions were looked at.
        labelled_from: When the first of these was answered; None without any.
        labelled_to: When the last one was.
        status: ``insufficient`` when there were too few rows to say more.
        reasons: Sentences for people.
        created_at: When the run was recorded.
    """

    id: int
    release: str
    model_version: int
    window_from: datetime | None
    window_to: datetime | None
    prediction_count: int
    labelled_count: int
    labelled_from: datetime | None
    labelled_to: datetime | None
    status: Status
    reasons: list[str]
    created_at: datetime


class NewestMonitoring(MonitoringRun):
    """The newest run, with its numbers."""

    metrics: list[MonitoringMetric]


class MonitoringHistory(BaseModel):
    """What monitoring has found.

    Attributes:
        contract: Whose release.
        newest: The newest run; None before the first.
        runs: Runs without their numbers, the newest first.
    """

    contract: str
    newest: NewestMonitoring | None
    runs: list[MonitoringRun]


def router(services: Services) -> APIRouter:
    """The route."""
    found = APIRouter(tags=["monitoring"])
    lane = services.database.own

    @found.get(
        "/monitoring",
        summary="How the deployed release does",
        description="The newest run of `kedro run --pipeline monitoring` with its numbers, and "
        "the runs before it.",
        responses=problems(
            {
                "422": "A parameter is wrong",
                "429": "Too many such requests wait already",
                "503": "The database is not available",
            }
        ),
    )
    @lane.endpoint
    def monitoring(limit: Limit = 50, before: Before = None) -> MonitoringHistory:
        from sqlalchemy import text

        contract = followed_contract(services)
        given = {"contract": contract, "before": before, "limit": limit}
        with lane.begin() as connection:
            runs = connection.execute(text(_RUNS), given).mappings()
            return MonitoringHistory(
                contract=contract,
                newest=_newest(connection, contract),
                runs=[MonitoringRun(**row) for row in runs],
            )

    return found


class NewestRun(Collector):
    """The newest run as scrapers see it.

    While the database is away it stays what it was; the time of the run tells how old it is.
    """

    def __init__(self, services: Services) -> None:
        """Nothing is read before the first scrape."""
        self._services = services
        self._lock = threading.Lock()
        self._read_at = -_FRESH_SECONDS
        self._known: tuple[str, NewestMonitoring] | None = None

    def collect(self) -> Iterator[Metric]:
        """Its gauges; none before the first run."""
        # A scrape never waits for another one's look at the database.
        if self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        if self._known is not None:
            yield from _families(*self._known)

    def _look(self) -> None:
        status, now = self._services.releases.status, time.monotonic()
        contract = self._services.settings.model or status.contract
        is_away = status.database_error is not None
        if contract is None or is_away or now - self._read_at < _FRESH_SECONDS:
            return
        self._read_at = now
        try:
            with self._services.database.own.begin() as connection:
                run = _newest(connection, contract)
        except ProblemError:
            # Logged by the database; a scrape never fails for it.
            return
        self._known = None if run is None else (contract, run)


def _newest(connection: "Connection", contract: str) -> NewestMonitoring | None:
    from sqlalchemy import text

    run = connection.execute(text(_NEWEST), {"contract": contract}).mappings().one_or_none()
    if run is None:
        return None
    metrics = connection.execute(text(_METRICS), {"id": run["id"]}).mappings()
    return NewestMonitoring(**run, metrics=[MonitoringMetric(**one) for one in metrics])


def _families(contract: str, run: NewestMonitoring) -> Iterator[Metric]:
    labels = ("contract", "area", "subject", "metric")
    value = GaugeMetricFamily(
        "mlops_monitoring_value", "What the newest monitoring run has measured.", labels=labels
    )
    alarm = GaugeMetricFamily(
        "mlops_monitoring_alarm",
        "1 where the measured value is an alarm, 0 where it could be one.",
        labels=labels,
    )
    for one in run.metrics:
        named = (contract, one.area, one.subject, one.metric)
        if one.value is not None:
            value.add_metric(named, one.value)
        if one.threshold is not None:
            alarm.add_metric(named, float(one.is_alarm))
    status = GaugeMetricFamily(
        "mlops_monitoring_status",
        "1 for the status of the newest monitoring run.",
        labels=("contract", "release", "status"),
    )
    for name in get_args(Status):
        status.add_metric((contract, run.release, name), float(name == run.status))
    yield from (value, alarm, status)
    numbers = {
        "timestamp_seconds": (
            "When the newest monitoring run was recorded, seconds since 1970.",
            run.created_at.timestamp(),
        ),
        "predictions": (
            "Predictions in the window of the newest monitoring run.",
            run.prediction_count,
        ),
        "labelled_predictions": (
            "Labelled predictions that the newest monitoring run has looked at.",
            run.labelled_count,
        ),
    }
    for name, (description, number) in numbers.items():
        family = GaugeMetricFamily(f"mlops_monitoring_{name}", description, labels=("contract",))
        family.add_metric((contract,), number)
        yield family
