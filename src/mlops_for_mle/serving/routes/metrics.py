"""``GET /metrics`` for Prometheus and ``GET /predictions/recent`` for the page."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_for_mle.serving.metrics.prometheus import PrometheusMetrics
from mlops_for_mle.serving.metrics.recent import INTERVAL_SECONDS, merge
from mlops_for_mle.serving.prediction_log.recorder import SpoolingRecorder
from mlops_for_mle.serving.recording import ServingMetrics
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.monitoring_store import NewestRun

_STATM = Path("/proc/self/statm")


class Prediction(BaseModel):
    """One predicted row.

    Attributes:
        prediction_id: Its id in the prediction log.
        answered_at: Seconds since 1970, UTC.
        value: The predicted class value or number.
        label: The name of the class; None for a regression.
        probability: Of the predicted class, where the model has probabilities.
        features: What was asked, by name.
        model_version: Which version answered.
    """

    prediction_id: str
    answered_at: float
    value: float
    label: str | None
    probability: float | None
    features: dict[str, Any]
    model_version: int


class PredictionInterval(BaseModel):
    """The predictions of some seconds.

    Attributes:
        start: Seconds since 1970, UTC.
        counts: How many by class value; a regression has the one key ``""``.
        total: The sum of a regression's answers.
        minimum: The least of them.
        maximum: The largest of them.
    """

    start: int
    counts: dict[str, int]
    total: float
    minimum: float | None
    maximum: float | None


class LatestPredictions(BaseModel):
    """What this server has predicted lately, since it was started.

    Attributes:
        now: The server's clock, seconds since 1970, UTC.
        interval_seconds: The length of an interval.
        intervals: The oldest first; those without predictions are left out.
        predictions: The newest first.
    """

    now: float
    interval_seconds: int
    intervals: list[PredictionInterval]
    predictions: list[Prediction]


def metrics_router(
    services: Services, metrics: PrometheusMetrics, newest_run: NewestRun
) -> APIRouter:
    """The routes."""

    @asynccontextmanager
    async def publishing(_: object) -> AsyncIterator[None]:
        metrics.start()
        try:
            yield
        finally:
            await run_in_threadpool(metrics.stop)

    router = APIRouter(lifespan=publishing)
    _register_gauges(services, metrics)

    @router.get(
        "/metrics",
        tags=["operation"],
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            200: {
                "description": "The numbers of all worker processes, summed, and those of the "
                "newest monitoring run",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    )
    async def scrape(request: Request) -> Response:
        # Prometheus' client takes longer to import than a server has before its first answer.
        from mlops_for_mle.serving.metrics.exposition import exposition

        accept = request.headers.get("accept", "")
        monitored = await run_in_threadpool(newest_run)
        content, content_type = await run_in_threadpool(exposition, metrics, accept, monitored)
        return Response(content, headers={"Content-Type": content_type})

    @router.get(
        "/predictions/recent", tags=["prediction"], summary="What was predicted in the last minutes"
    )
    def recent() -> LatestPredictions:
        view = merge(snapshot.recent for snapshot in metrics.snapshots())
        return LatestPredictions.model_validate(
            {
                "now": time.time(),
                "interval_seconds": INTERVAL_SECONDS,
                "intervals": view.intervals,
                "predictions": view.predictions,
            },
            from_attributes=True,
        )

    return router


class CountRequests:
    """Middleware that counts the framework's requests by the route's template."""

    def __init__(self, app: ASGIApp, metrics: ServingMetrics) -> None:
        """Count the requests of an application."""
        self._application = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._application(scope, receive, noting)
        finally:
            route: Any = getattr(scope.get("route"), "path_format", "(unknown)")
            seconds = time.perf_counter() - started
            self._metrics.requested(f"{scope['method']} {route}", status, seconds)


def _register_gauges(services: Services, metrics: PrometheusMetrics) -> None:
    slot, recorder = services.slot, services.recorder
    metrics.gauge("mlops_workers", "Processes that answer.", lambda: 1)
    metrics.gauge(
        "mlops_workers_ready",
        "Processes that have a release loaded.",
        lambda: slot.current is not None,
    )
    metrics.gauge(
        "mlops_deployment_failed",
        "1 while the newest deployment cannot be served and an older one or none is.",
        lambda: slot.status.failure is not None,
        combine="max",
    )
    metrics.gauge(
        "mlops_database_available",
        "1 when the database answered the last time that deployments were looked at.",
        lambda: slot.status.checked_at is not None and slot.status.database_error is None,
        combine="min",
    )
    if _STATM.exists():
        metrics.gauge(
            "mlops_resident_memory_bytes", "Memory of all processes, in bytes.", _resident_bytes
        )
    if isinstance(recorder, SpoolingRecorder):
        metrics.gauge(
            "mlops_spool_bytes",
            "Predictions that wait for the database, in bytes on disk.",
            lambda: recorder.status().stored_bytes,
            combine="max",
        )
        metrics.gauge(
            "mlops_spool_limit_bytes",
            "The most that may wait, in bytes.",
            lambda: recorder.status().max_bytes,
            combine="max",
        )
        for name, what in (
            ("recorded", "Rows that were spooled."),
            ("shipped", "Rows that were written to the database."),
            ("refused", "Requests that were refused because the spool was full."),
            ("dropped", "Rows that were answered and not kept because the spool was full."),
        ):
            metrics.counter(f"mlops_spool_{name}_total", what, _reader(recorder, name))


def _reader(recorder: SpoolingRecorder, name: str) -> Any:
    return lambda: getattr(recorder.status(), name)


def _resident_bytes() -> float:
    return float(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
