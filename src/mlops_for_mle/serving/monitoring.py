"""``GET /monitoring``: how the deployed release does, as the monitoring pipeline has found.

Prometheus gets the numbers of the newest run, from the database and so the same in every process.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.database import AWAY
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


_REPORT = "SELECT html FROM monitoring_reports WHERE contract = :contract"
# A report has its style within, and loads nothing.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class MonitoringMetric(BaseModel):
    """One number of a run: what it is about, the interval around it, what it was compared with.

    Attributes:
        value: None where there was nothing to measure.
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

    The window and ``labelled_from`` are times at which predictions were answered; None for none.
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
    """The newest run of a contract, None before the first, and runs without their numbers."""

    contract: str
    newest: NewestMonitoring | None
    runs: list[MonitoringRun]


def router(services: Services) -> APIRouter:
    """The route."""
    found = APIRouter(tags=["monitoring"])
    database = services.database.own

    @found.get(
        "/monitoring",
        summary="How the deployed release does",
        description="The newest run of `kedro run --pipeline monitoring` with its numbers, and "
        "the runs before it.",
        responses=problems({"422": "A parameter is wrong", **AWAY}),
    )
    @database.endpoint
    def monitoring(limit: Limit = 50, before: Before = None) -> MonitoringHistory:
        from sqlalchemy import text

        contract = followed_contract(services)
        given = {"contract": contract, "before": before, "limit": limit}
        with database.begin() as connection:
            runs = connection.execute(text(_RUNS), given).mappings()
            return MonitoringHistory(
                contract=contract,
                newest=_newest(connection, contract),
                runs=[MonitoringRun(**row) for row in runs],
            )

    @found.get(
        "/monitoring/report",
        summary="The newest monitoring run as a page for people",
        response_class=HTMLResponse,
        responses=problems({"404": "There is no report yet", **AWAY}),
    )
    @database.endpoint
    def report() -> HTMLResponse:
        from sqlalchemy import text

        given = {"contract": followed_contract(services)}
        with database.begin() as connection:
            html = connection.scalar(text(_REPORT), given)
        if html is None:
            raise ProblemError(404, "Nothing was monitored yet.")
        return HTMLResponse(html, headers={"Content-Security-Policy": _REPORT_POLICY})

    return found


class NewestRun(Collector):
    """The newest run as scrapers see it.

    While the database is away it stays what it was; the time of the run tells how old it is.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._read_at = -_FRESH_SECONDS
        self._known: tuple[str, NewestMonitoring] | None = None

    def collect(self) -> Iterator[Metric]:
        """Its gauges; none before the first run."""
        status, now = self._services.releases.status, time.monotonic()
        contract = self._services.settings.model or status.contract
        is_away = status.database_error is not None
        if contract is not None and not is_away and now - self._read_at >= _FRESH_SECONDS:
            # At once: a scrape never waits for another one's look at the database.
            self._read_at = now
            # A scrape never fails for the database.
            with suppress(ProblemError), self._services.database.own.begin() as connection:
                run = _newest(connection, contract)
                self._known = None if run is None else (contract, run)
        if self._known is not None:
            yield from _families(*self._known)


def _newest(connection: "Connection", contract: str) -> NewestMonitoring | None:
    from sqlalchemy import text

    run = connection.execute(text(_NEWEST), {"contract": contract}).mappings().one_or_none()
    if run is None:
        return None
    metrics = connection.execute(text(_METRICS), {"id": run["id"]}).mappings()
    return NewestMonitoring(**run, metrics=[MonitoringMetric(**one) for one in metrics])


def _families(contract: str, run: NewestMonitoring) -> Iterator[Metric]:
    key = ("contract",)
    area = ("contract", "area", "subject", "metric")
    numbers = [((contract, one.area, one.subject, one.metric), one) for one in run.metrics]
    statuses = {(contract, run.release, one): one == run.status for one in get_args(Status)}
    values = {name: one.value for name, one in numbers if one.value is not None}
    alarms = {name: one.is_alarm for name, one in numbers if one.threshold is not None}
    at = {(contract,): run.created_at.timestamp()}
    families: Sequence[tuple[str, str, tuple[str, ...], Mapping[Any, float]]] = (
        ("value", "What was measured.", area, values),
        ("alarm", "1 where the value is an alarm, 0 where it could be one.", area, alarms),
        ("status", "1 for the status.", ("contract", "release", "status"), statuses),
        ("timestamp_seconds", "When it was recorded, seconds since 1970.", key, at),
        ("predictions", "Predictions in its window.", key, {(contract,): run.prediction_count}),
        (
            "labelled_predictions",
            "Labelled predictions that it has looked at.",
            key,
            {(contract,): run.labelled_count},
        ),
    )
    for name, words, labels, samples in families:
        told = f"Of the newest monitoring run. {words}"
        family = GaugeMetricFamily(f"mlops_monitoring_{name}", told, labels=labels)
        for labelled, number in samples.items():
            family.add_metric(labelled, number)
        yield family
