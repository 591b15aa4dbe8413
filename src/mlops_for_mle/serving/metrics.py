"""What the server counts, for Prometheus: ``GET /metrics``.

``prometheus_client`` keeps the numbers: in this process where it is the only one, else in files of
a folder that all workers share, so that a scrape may reach any of them.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
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
_RELEASE = ("contract", "release")
# How the numbers of several processes become one, and what they are; see ``_state``.
_GAUGES: dict[str, tuple[Any, str]] = {
    "workers": ("livesum", "Processes that answer."),
    "workers_ready": ("livesum", "Processes that have a release loaded."),
    "deployment_failed": ("livemax", "1 while the newest deployment cannot be served."),
    "database_available": ("livemin", "1 when the database answered when it was last asked."),
    "resident_memory_bytes": ("livesum", "Memory of all processes, in bytes."),
    "spool_bytes": ("livemax", "Predictions that wait for the database, in bytes on disk."),
    "spool_limit_bytes": ("livemax", "The most that may wait, in bytes."),
}
_REFRESH_SECONDS = 0.5
_STATM = Path("/proc/self/statm")


def _state(services: "Services") -> dict[str, float]:
    releases = services.releases
    pages = float(_STATM.read_text().split()[1]) if _STATM.exists() else float("nan")
    return {
        "workers": 1,
        "workers_ready": releases.current is not None,
        "deployment_failed": releases.status.failure is not None,
        "database_available": releases.is_database_available is True,
        "resident_memory_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "spool_bytes": services.log.stored_bytes,
        "spool_limit_bytes": services.log.max_bytes,
    }


class Metrics:
    """Counts what happens; safe in several threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"mlops_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, mode: Any, *labels: str) -> Gauge:
            return Gauge(f"mlops_{name}", words, labels, registry=registry, multiprocess_mode=mode)

        self._requests = Histogram(
            _DURATION,
            "Time from the arrival of a request to its answer, in seconds.",
            _LABELS,
            buckets=_LATENCY_BOUNDS,
            registry=registry,
        )
        words = "Rows that were predicted, by class; a regression has no class."
        self._predictions = counter("predictions", words, "contract", "model_version", "class")
        words = "Releases that took over from another, counted in each process."
        self._swaps = counter("release_swaps", words)
        words = "Deployed releases that could not be loaded, counted in each process."
        self._failures = counter("release_failures", words)
        words, facts = "Processes that serve this release.", ("model_version", "run_id")
        self._info = gauge("model_info", words, "livesum", *_RELEASE, *facts)
        words = "When the first process took the release over, seconds since 1970."
        self._loaded = gauge("model_loaded_timestamp_seconds", words, "livemin", *_RELEASE)
        self._spooled = {name: counter(f"spool_{name}", words) for name, words in COUNTED.items()}
        self._told = dict.fromkeys(COUNTED, 0)
        self._gauges = {name: gauge(name, words, mode) for name, (mode, words) in _GAUGES.items()}
        self._served: tuple[Gauge, Gauge] | None = None
        # Children by their labels, since looking one up costs as much as counting.
        self._durations: dict[tuple[str, str, int], Histogram] = {}
        self._classes: dict[tuple[str, Any], Counter] = {}

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered, with whatever status."""
        key = (route, method, status)
        child = self._durations.get(key)
        if child is None:
            child = self._durations[key] = self._requests.labels(route, method, str(status))
        child.observe(seconds)

    def predicted(self, answered: Sequence["Answered"]) -> None:
        """Rows of some requests were predicted by one release."""
        manifest = answered[0].question.served.manifest
        for one in answered:
            for value, count in one.counts.items():
                child = self._classes.get((manifest.release, value))
                (child or self._class(manifest, value)).inc(count)

    def _class(self, manifest: Manifest, value: Any) -> Counter:
        contract = manifest.contract
        label = "" if value is None else contract.target.labels.get(value, str(value))
        child = self._predictions.labels(contract.name, str(manifest.version), label)
        self._classes[manifest.release, value] = child
        return child

    def release_loaded(self, manifest: Manifest) -> None:
        """A release took over."""
        if self._served is not None:
            self._swaps.inc()
            for gauge in self._served:
                gauge.set(0)
        name, release = manifest.contract.name, manifest.release
        info = self._info.labels(name, release, str(manifest.version), manifest.run_id)
        self._served = (info, self._loaded.labels(name, release))
        info.set(1)
        self._served[1].set(time.time())

    def release_failed(self) -> None:
        """A deployed release could not be loaded."""
        self._failures.inc()

    def refresh(self, services: "Services") -> None:
        """Take over the numbers that others keep."""
        for name, number in _state(services).items():
            self._gauges[name].set(number)
        for name, counter in self._spooled.items():
            counted = getattr(services.log.counts, name)
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
            if family.name.startswith("mlops_model_"):
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
