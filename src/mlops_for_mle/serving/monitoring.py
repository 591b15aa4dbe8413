"""``GET /monitoring``: how the deployed release does, as the monitoring pipeline has found."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.deployments import followed_contract
from mlops_for_mle.serving.errors import ProblemError

if TYPE_CHECKING:
    from sqlalchemy import Connection

# A run that looks back takes its place by the end of its window.
_RUNS = """
SELECT id, release, model_version, window_from, window_to, prediction_count, labelled_count,
       labelled_from, labelled_to, status, reasons, created_at
FROM (SELECT * FROM monitoring_runs WHERE contract = :contract ORDER BY id DESC LIMIT 50) AS last
ORDER BY coalesce(window_to, created_at) DESC, id DESC
"""
_METRICS = """
SELECT area, subject, metric, value, lower, upper, threshold, p_value, is_alarm
FROM monitoring_metrics WHERE run_id = :id AND segment = '' ORDER BY area, subject, metric
"""
_REPORT = "SELECT html FROM monitoring_reports WHERE contract = :contract"
# A report has its style within, and loads nothing.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STATUSES = ("insufficient", "healthy", "warning", "alarm")


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["monitoring"])
    database = services.database.own

    @found.get(
        "/monitoring", summary="The newest monitoring run with its numbers, and those before"
    )
    @database.endpoint
    def monitoring() -> dict[str, Any]:
        contract = followed_contract(services)
        with database.begin() as connection:
            runs, metrics = _look(connection, contract)
        newest = runs[0] | {"metrics": metrics} if runs else None
        return {"contract": contract, "newest": newest, "runs": runs}

    @found.get(
        "/monitoring/report",
        summary="The newest monitoring run as a page for people",
        response_class=HTMLResponse,
    )
    @database.endpoint
    def report() -> HTMLResponse:
        from sqlalchemy import text

        given = {"contract": followed_contract(services)}
        with database.begin() as connection:
            html = connection.scalar(text(_REPORT), given)
        if html is None:
            raise ProblemError(404, "Nothing was monitored yet")
        return HTMLResponse(html, headers={"Content-Security-Policy": _REPORT_POLICY})

    return found


def _look(
    connection: "Connection", contract: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The last runs of a contract, the newest first, and the numbers of the newest."""
    from sqlalchemy import text

    def rows(statement: str, **given: Any) -> list[dict[str, Any]]:
        return [dict(one) for one in connection.execute(text(statement), given).mappings()]

    runs = rows(_RUNS, contract=contract)
    return runs, rows(_METRICS, id=runs[0]["id"]) if runs else []


class NewestRun(Collector):
    """Gauges of the newest run, from the database and so the same in every process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """None before the first run and while the database is away: a scrape never fails for it."""
        status = self._services.releases.status
        contract = self._services.settings.model or status.contract
        if contract is None or status.database_error is not None:
            return
        runs: list[dict[str, Any]] = []
        with suppress(ProblemError), self._services.database.own.begin() as connection:
            runs, metrics = _look(connection, contract)
        if runs:
            yield from _gauges(contract, runs[0], metrics)


def _gauges(contract: str, run: dict[str, Any], metrics: list[dict[str, Any]]) -> Iterator[Metric]:
    labels = ("area", "subject", "metric")
    named = {tuple(one[label] for label in labels): one for one in metrics}
    values = {name: one["value"] for name, one in named.items() if one["value"] is not None}
    alarms = {name: one["is_alarm"] for name, one in named.items() if one["threshold"] is not None}
    status = {(run["release"], one): one == run["status"] for one in _STATUSES}
    families: tuple[tuple[str, str, tuple[str, ...], dict[Any, float]], ...] = (
        ("value", "What was measured.", labels, values),
        ("alarm", "1 where the value is an alarm, 0 where it could be one.", labels, alarms),
        ("status", "1 for the status.", ("release", "status"), status),
        ("timestamp_seconds", "When it was recorded.", (), {(): run["created_at"].timestamp()}),
        ("predictions", "Predictions in its window.", (), {(): run["prediction_count"]}),
        ("labelled_predictions", "Those with a true label.", (), {(): run["labelled_count"]}),
    )
    for name, words, known_by, samples in families:
        told = f"Of the newest monitoring run. {words}"
        names = ("contract", *known_by)
        family = GaugeMetricFamily(f"mlops_monitoring_{name}", told, labels=names)
        for found, number in samples.items():
            family.add_metric((contract, *found), number)
        yield family
