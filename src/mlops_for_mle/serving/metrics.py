"""What the server counts, for Prometheus: ``GET /metrics``.

``prometheus_client`` keeps the numbers: in this process where it is the only one, else in files of
a folder that all workers share, so that a scrape may reach any of them.
"""

import asyncio
import collections
import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastapi
import numpy as np
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import Collector

from mlops_for_mle.contract.rules import Column
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.monitoring import NewestRun
from mlops_for_mle.serving.server import METRICS_FOLDER, is_running

if TYPE_CHECKING:
    from mlops_for_mle.serving.answers import Question
    from mlops_for_mle.serving.context import Services

disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds; the last bucket is everything beyond.
_LATENCY_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
# Up to so many are counted more quickly one by one.
_FEW = 128
_TEXT = {"Content-Type": CONTENT_TYPE_LATEST}
_SPOOL = {
    "shipped": "Rows that were written to the database, those of ended processes included.",
    "refused": "Requests that were answered with 503 because the spool was full.",
    "dropped": "Rows that were answered and not kept because the spool was full.",
    "damaged": "Lines that were set aside: they cannot be read, or the database refuses them.",
    "torn": "Last lines of killed processes, which were not answered.",
}
# What holds for all processes, as the one sees it that is asked.
_STATE = {
    "database_available": "1 when the database answered last.",
    "spool_bytes": "Predictions that wait for the database, in bytes.",
    "spool_limit_bytes": "The most that may wait.",
}


class Metrics:
    """Counts what happens; safe in several threads.

    Attributes:
        registry: Where this process counts.
        spool: What becomes of the prediction log: shipped, refused, dropped, damaged, torn.
        state: What is looked up when somebody asks for the numbers.
        deployment_failed: 1 while the newest deployment cannot be served.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"mlops_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, mode: Any, *labels: str) -> Gauge:
            return Gauge(f"mlops_{name}", words, labels, registry=registry, multiprocess_mode=mode)

        durations = Histogram(
            "mlops_request_duration_seconds",
            "Time from the arrival of a request to its answer, in seconds.",
            ("route", "method", "status"),
            buckets=_LATENCY_BOUNDS,
            registry=registry,
        )
        words = "Rows that were predicted, by class; a regression has no class."
        predictions = counter("predictions", words, "contract", "model_version", "class")
        words = "Values that lie outside what the model was trained on, by feature."
        outside = counter("outside_training", words, "contract", "model_version", "feature")
        self.spool = {name: counter(f"spool_{name}", words) for name, words in _SPOOL.items()}
        self._swaps = counter("release_swaps", "Releases that took over from another.")
        self._failures = counter("release_failures", "Releases that could not be loaded.")
        words = "1 while the newest deployment cannot be served."
        self.deployment_failed = gauge("deployment_failed", words, "livemax")
        words = "Processes that have a release loaded."
        self._ready = gauge("workers_ready", words, "livesum")
        words, labels = "Processes that serve it.", ("contract", "release", "model_version")
        self._info = gauge("model_info", words, "livesum", *labels, "run_id")
        self._served: Gauge | None = None
        self.state = {name: gauge(name, words, "livemostrecent") for name, words in _STATE.items()}

        # Remembered, since looking one up costs as much as counting.
        self._duration_of = cache(durations.labels)
        self._durations = collections.defaultdict[tuple[str, str, int], list[float]](list)
        self._predictions_of = cache(predictions.labels)
        self._outside_of = cache(outside.labels)

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered, with whatever status; only in the thread of the event loop."""
        if not self._durations:
            asyncio.get_running_loop().call_soon(self._observe)
        self._durations[route, method, status].append(seconds)

    def _observe(self) -> None:
        """Count what was answered in a turn of the event loop together: one by one costs more."""
        for labels, durations in self._durations.items():
            # Its method takes one value at a time.
            histogram = self._duration_of(*labels)
            histogram._sum.inc(sum(durations))
            places = collections.Counter(bisect_left(_LATENCY_BOUNDS, one) for one in durations)
            for place, count in places.items():
                histogram._buckets[place].inc(count)
        self._durations.clear()

    def predicted(self, questions: Sequence["Question"]) -> None:
        """Rows of some requests were predicted by one release."""
        manifest = questions[0].served.manifest
        contract, version = manifest.contract, manifest.version
        labels = contract.target.labels
        parts = [part for one in questions for part in one.parts]
        if labels:
            for code, count in _counted(np.concatenate([one.values for one in parts])).items():
                self._predictions_of(contract.name, version, labels[code]).inc(count)
        else:
            count = sum(len(one.values) for one in parts)
            self._predictions_of(contract.name, version, "").inc(count)
        for part in parts:
            if part.outside is not None:
                beyond = zip(contract.features, part.outside.sum(axis=0).tolist(), strict=True)
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
        self._ready.set(1)
        self.deployment_failed.set(0)

    def release_failed(self) -> None:
        """A deployed release could not be loaded."""
        self._failures.inc()
        self.deployment_failed.set(1)

    def exposition(self, *others: Collector) -> bytes:
        """The numbers of all processes, with those of others, as text."""
        registry, folder = self.registry, os.environ.get(METRICS_FOLDER)
        if folder:
            # The gauges of workers that were killed go; what they counted stays.
            for path in Path(folder).glob("gauge_live*.db"):
                pid = int(path.stem.rpartition("_")[2])
                if not is_running(pid):
                    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        found = CollectorRegistry(auto_describe=False)
        for one in (registry, *others):
            found.register(one)
        return generate_latest(found)


def _counted(values: Column) -> Mapping[Any, int]:
    """How many there are of each value."""
    if len(values) < _FEW:
        return collections.Counter(values.tolist())
    return dict(zip(*(one.tolist() for one in np.unique(values, return_counts=True)), strict=True))


def router(services: "Services") -> fastapi.APIRouter:
    """The route."""
    found = fastapi.APIRouter(tags=["operation"])
    metrics, newest_run = services.metrics, NewestRun(services)
    words = "The numbers of all worker processes, and those of the newest monitoring run"
    content = {"text/plain": {"schema": {"type": "string"}}}

    @found.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=fastapi.Response,
        responses={200: {"description": words, "content": content}},
    )
    def scrape() -> fastapi.Response:
        log, database = services.log, services.releases.database
        metrics.state["database_available"].set(bool(database.available))
        metrics.state["spool_bytes"].set(log.stored_bytes)
        metrics.state["spool_limit_bytes"].set(log.max_bytes)
        return fastapi.Response(metrics.exposition(newest_run), headers=_TEXT)

    return found
