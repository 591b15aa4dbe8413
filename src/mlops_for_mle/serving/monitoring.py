"""``GET /monitoring``: how well the deployed release does, by the monitoring pipeline."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from prometheus_client.core import GaugeMetricFamily, Metric

from mlops_for_mle.serving.database import rows
from mlops_for_mle.serving.deployments import followed_contract
from mlops_for_mle.serving.errors import ProblemError

if TYPE_CHECKING:
    from mlops_for_mle.serving.services import Services

# Runs stand in the order of their windows, since one may look back.
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


def router(services: "Services") -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["monitoring"])
    database = services.database

    @routes.get(
        "/monitoring", summary="The newest monitoring run with its numbers, and those before"
    )
    @database.endpoint
    def monitoring() -> dict[str, Any]:
        contract = followed_contract(services)
        runs, metrics = _runs(services, contract)
        newest = runs[0] | {"metrics": metrics} if runs else None
        return {"contract": contract, "newest": newest, "runs": runs}

    @routes.get(
        "/monitoring/report",
        summary="The newest monitoring run as a page for people",
        response_class=HTMLResponse,
    )
    @database.endpoint
    def report() -> HTMLResponse:
        contract = followed_contract(services)
        with database.begin() as connection:
            reports = rows(connection, _REPORT, contract=contract)
        if not reports:
            raise ProblemError(404, "Nothing was monitored yet")
        return HTMLResponse(reports[0]["html"], headers={"Content-Security-Policy": _REPORT_POLICY})

    return routes


def _runs(services: "Services", contract: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The last runs of a contract, the newest first, and the numbers of the newest."""
    with services.database.begin() as connection:
        runs = rows(connection, _RUNS, contract=contract)
        return runs, rows(connection, _METRICS, id=runs[0]["id"]) if runs else []


def newest_run(services: "Services") -> Iterator[Metric]:
    """Gauges of the newest run, from the database and so the same in every process.

    None before the first run and while the database is away: a scrape never fails for it.
    """
    contract = services.releases.contract
    if contract is None or services.releases.database.error is not None:
        return
    try:
        runs, metrics = _runs(services, contract)
    except ProblemError:
        return
    if not runs:
        return

    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        text = f"Of the newest monitoring run. {text}"
        return GaugeMetricFamily(f"mlops_monitoring_{name}", text, labels=("contract", *labels))

    names = ("area", "subject", "metric")
    value = gauge("value", "What was measured.", *names)
    alarm = gauge("alarm", "1 where the value is an alarm, 0 where it could be.", *names)
    for row in metrics:
        labels = (contract, *(row[name] for name in names))
        if row["value"] is not None:
            value.add_metric(labels, row["value"])
        if row["threshold"] is not None:
            alarm.add_metric(labels, row["is_alarm"])
    recorded = gauge("timestamp_seconds", "When it was recorded.")
    recorded.add_metric((contract,), runs[0]["created_at"].timestamp())
    labelled = gauge("labelled_predictions", "Those with a true label.")
    labelled.add_metric((contract,), runs[0]["labelled_count"])
    yield from (value, alarm, recorded, labelled)
