"""What the server counts, for Prometheus: ``GET /metrics``.

``prometheus_client`` keeps the numbers: in this process where it is the only one, else in files of
a folder that all workers share, so that a scrape may reach any of them.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastapi
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    multiprocess,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.monitoring import NewestRun
from mlops_for_mle.serving.prediction_log import COUNTED
from mlops_for_mle.serving.server import METRICS_FOLDER, is_running

if TYPE_CHECKING:
    from mlops_for_mle.serving.context import Services
    from mlops_for_mle.serving.predict import Answered

disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds; the last bucket is everything beyond.
_LATENCY_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_DURATION = "mlops_request_duration_seconds"
_LABELS = ("route", "method", "status")
_REFRESH_SECONDS = 0.5


class Metrics:
    """Counts what happens; safe in several threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"mlops_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, mode: Any, *labels: str) -> Gauge:
            return Gauge(f"mlops_{name}", words, labels, registry=registry, multiprocess_mode=mode)

        words = "Time from the arrival of a request to its answer, in seconds."
        durations = Histogram(_DURATION, words, _LABELS, buckets=_LATENCY_BOUNDS, registry=registry)
        words = "Rows that were predicted, by class; a regression has no class."
        predictions = counter("predictions", words, "contract", "model_version", "class")
        words = "Values that lie outside what the model was trained on, by feature."
        outside = counter("outside_training", words, "contract", "model_version", "feature")
        self._swaps = counter("release_swaps", "Releases that took over from another.")
        self._failures = counter("release_failures", "Releases that could not be loaded.")
        words, labels = "Processes that serve it.", ("contract", "release", "model_version")
        self._info = gauge("model_info", words, "livesum", *labels, "run_id")
        self._served: Gauge | None = None
        self._spooled = {name: counter(f"spool_{name}", words) for name, words in COUNTED.items()}
        self._told = dict.fromkeys(COUNTED, 0)
        words = "Processes that have a release loaded."
        self._ready = gauge("workers_ready", words, "livesum")
        words = "1 while the newest deployment cannot be served."
        self._is_failing = gauge("deployment_failed", words, "livemax")
        words = "1 when the database answered when it was last asked."
        self._has_database = gauge("database_available", words, "livemin")
        words = "Predictions that wait for the database, in bytes on disk."
        self._spool_bytes = gauge("spool_bytes", words, "livemax")
        self._spool_limit = gauge("spool_limit_bytes", "The most that may wait.", "livemax")

        # Remembered, since looking one up costs as much as counting.
        self._duration_of = cache(durations.labels)
        self._predictions_of = cache(predictions.labels)
        self._outside_of = cache(outside.labels)

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered, with whatever status."""
        self._duration_of(route, method, status).observe(seconds)

    def predicted(self, answered: Sequence["Answered"]) -> None:
        """Rows of some requests were predicted by one release."""
        manifest = answered[0].question.served.manifest
        contract, version = manifest.contract, manifest.version
        labels = contract.target.labels
        for one in answered:
            for code, count in one.counts.items():
                label = "" if code is None else labels[code]
                self._predictions_of(contract.name, version, label).inc(count)
            if one.outside is not None:
                beyond = zip(contract.features, one.outside.sum(axis=0).tolist(), strict=True)
                for name, count in beyond:
                    self._outside_of(contract.name, version, name).inc(count)

    def release_loaded(self, manifest: Manifest) -> None:
        """A release took over."""
        if self._served is not None:
            self._swaps.inc()
            self._served.set(0)
        name, version = manifest.contract.name, manifest.version
        self._served = self._info.labels(name, manifest.release, version, manifest.run_id)
        self._served.set(1)

    def release_failed(self) -> None:
        """A deployed release could not be loaded."""
        self._failures.inc()

    def refresh(self, services: "Services") -> None:
        """Take over the numbers that others keep."""
        releases, log = services.releases, services.log
        self._ready.set(releases.current is not None)
        self._is_failing.set(releases.status.failure is not None)
        self._has_database.set(releases.is_database_available is True)
        self._spool_bytes.set(log.stored_bytes)
        self._spool_limit.set(log.max_bytes)
        for name, counter in self._spooled.items():
            counted = getattr(log.counts, name)
            counter.inc(counted - self._told[name])
            self._told[name] = counted

    async def keep_fresh(self, services: "Services") -> None:
        """Do so now and then where a scrape may reach another process."""
        while METRICS_FOLDER in os.environ:
            self.refresh(services)
            await asyncio.sleep(_REFRESH_SECONDS)

    def exposition(
        self, services: "Services", accept: str, others: Collector | None = None
    ) -> tuple[bytes, str]:
        """The numbers of all processes in the text form that the scraper prefers, and its type."""
        self.refresh(services)
        registry, folder = self._registry, os.environ.get(METRICS_FOLDER)
        if folder:
            # The gauges of workers that were killed go; what they counted stays.
            for path in Path(folder).glob("gauge_live*.db"):
                pid = int(path.stem.rpartition("_")[2])
                if not is_running(pid):
                    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        found = CollectorRegistry(auto_describe=False)
        found.register(_Shown(registry))
        if others is not None:
            found.register(others)
        encode, content_type = choose_encoder(accept)
        return encode(found), content_type


class _Shown(Collector):
    """Adds how many requests there were, and leaves out releases that are no longer served."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.name == _DURATION:
                words = "Requests that were answered."
                count = CounterMetricFamily("mlops_requests", words, labels=_LABELS)
                for one in family.samples:
                    if one.name.endswith("_count"):
                        count.add_metric([one.labels[name] for name in _LABELS], one.value)
                yield count
            if family.name == "mlops_model_info":
                family.samples = [one for one in family.samples if one.value]
            yield family


def router(services: "Services") -> fastapi.APIRouter:
    """The route."""
    found = fastapi.APIRouter(tags=["operation"])
    newest = NewestRun(services)
    words = "The numbers of all worker processes, and those of the newest monitoring run"
    content = {"text/plain": {"schema": {"type": "string"}}}

    @found.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=fastapi.Response,
        responses={200: {"description": words, "content": content}},
    )
    def scrape(request: fastapi.Request) -> fastapi.Response:
        accept = request.headers.get("accept", "")
        text, content_type = services.metrics.exposition(services, accept, newest)
        return fastapi.Response(text, headers={"Content-Type": content_type})

    return found
