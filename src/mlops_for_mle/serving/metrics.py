"""What the server counts, for Prometheus: ``GET /metrics``.

``prometheus_client`` keeps the numbers: in this process where it is the only one, else in files of
a folder that all workers share, so that a scrape may reach any of them.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
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
_SPOOLED = {
    "recorded": "Rows that were spooled.",
    "shipped": "Rows that were written to the database.",
    "refused": "Requests that were refused because the spool was full.",
    "dropped": "Rows that were answered and not kept because the spool was full.",
    "damaged": "Lines of the spool that were set aside.",
    "torn": "Last lines of killed processes, which were not answered.",
}
_REFRESH_SECONDS = 0.5
_STATM = Path("/proc/self/statm")


def _resident_bytes(_: "Services") -> float:
    pages = float(_STATM.read_text().split()[1]) if _STATM.exists() else float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE")


# Name, words, how the numbers of several processes become one, and where the number is.
_GAUGES: tuple[tuple[str, str, Any, Callable[["Services"], float]], ...] = (
    ("mlops_workers", "Processes that answer.", "livesum", lambda _: 1),
    (
        "mlops_workers_ready",
        "Processes that have a release loaded.",
        "livesum",
        lambda services: services.releases.current is not None,
    ),
    (
        "mlops_deployment_failed",
        "1 while the newest deployment cannot be served and an older one or none is.",
        "livemax",
        lambda services: services.releases.status.failure is not None,
    ),
    (
        "mlops_database_available",
        "1 when the database answered the last time that deployments were looked at.",
        "livemin",
        lambda services: services.releases.is_database_available is True,
    ),
    (
        "mlops_resident_memory_bytes",
        "Memory of all processes, in bytes.",
        "livesum",
        _resident_bytes,
    ),
    (
        "mlops_spool_bytes",
        "Predictions that wait for the database, in bytes on disk.",
        "livemax",
        lambda services: services.log.stored_bytes,
    ),
    (
        "mlops_spool_limit_bytes",
        "The most that may wait, in bytes.",
        "livemax",
        lambda services: services.log.max_bytes,
    ),
)


class Metrics:
    """Counts what happens; safe in several threads."""

    def __init__(self) -> None:
        """Start at zero."""
        self._registry = registry = CollectorRegistry()
        self._requests = Histogram(
            _DURATION,
            "Time from the arrival of a request to its answer, in seconds.",
            _LABELS,
            buckets=_LATENCY_BOUNDS,
            registry=registry,
        )
        self._predictions = Counter(
            "mlops_predictions",
            "Rows that were predicted, by class; a regression has no class.",
            ("contract", "model_version", "class"),
            registry=registry,
        )
        self._swaps = Counter(
            "mlops_release_swaps",
            "Releases that took over from another, counted in each process.",
            registry=registry,
        )
        self._failures = Counter(
            "mlops_release_failures",
            "Deployed releases that could not be loaded, counted in each process.",
            registry=registry,
        )
        self._info = Gauge(
            "mlops_model_info",
            "Processes that serve this release.",
            ("contract", "release", "model_version", "run_id"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._loaded = Gauge(
            "mlops_model_loaded_timestamp_seconds",
            "When the release took over in the first process that serves it, seconds since 1970.",
            ("contract", "release"),
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._spooled = {
            name: Counter(f"mlops_spool_{name}", text, registry=registry)
            for name, text in _SPOOLED.items()
        }
        self._told = dict.fromkeys(_SPOOLED, 0)
        self._gauges = [
            Gauge(name, text, registry=registry, multiprocess_mode=mode)
            for name, text, mode, _ in _GAUGES
        ]
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

    def exposition(
        self, services: "Services", accept: str, others: Collector | None = None
    ) -> tuple[bytes, str]:
        """The numbers of all processes in the text form that the scraper prefers, and its type."""
        self.refresh(services)
        registry, folder = self._registry, os.environ.get(METRICS_FOLDER)
        if folder:
            _forget_dead_processes(Path(folder))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(accept)
        shown = CollectorRegistry(auto_describe=False)
        shown.register(_Shown(registry))
        if others is not None:
            shown.register(others)
        return encode(shown), content_type

    def refresh(self, services: "Services") -> None:
        """Take over the numbers that others keep."""
        for (*_, read), gauge in zip(_GAUGES, self._gauges, strict=True):
            gauge.set(read(services))
        for name, counter in self._spooled.items():
            counted = getattr(services.log.counts, name)
            counter.inc(counted - self._told[name])
            self._told[name] = counted

    async def keep_fresh(self, services: "Services") -> None:
        """Do so now and then where a scrape may reach another process."""
        while METRICS_FOLDER in os.environ:
            self.refresh(services)
            await asyncio.sleep(_REFRESH_SECONDS)

    def _class(self, manifest: Manifest, value: Any) -> Counter:
        contract = manifest.contract
        label = "" if value is None else contract.target.labels.get(value, str(value))
        child = self._predictions.labels(contract.name, str(manifest.version), label)
        self._classes[manifest.release, value] = child
        return child


class _Shown(Collector):
    """Adds how many requests there were, and leaves out releases that are no longer served."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.name == _DURATION:
                count = CounterMetricFamily(
                    "mlops_requests",
                    "Requests that were answered.",
                    labels=_LABELS,
                )
                for one in family.samples:
                    if one.name.endswith("_count"):
                        count.add_metric([one.labels[name] for name in _LABELS], one.value)
                yield count
            if family.name.startswith("mlops_model_"):
                family.samples = [one for one in family.samples if one.value]
            yield family


def _forget_dead_processes(folder: Path) -> None:
    """Leave out the gauges of workers that were killed; what they counted stays."""
    for path in folder.glob("gauge_live*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not is_running(pid):
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def router(services: "Services") -> fastapi.APIRouter:
    """The route."""
    found = fastapi.APIRouter(tags=["operation"])
    newest = NewestRun(services)

    @found.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=fastapi.Response,
        responses={
            200: {
                "description": "The numbers of all worker processes, and those of the newest "
                "monitoring run",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    )
    def scrape(request: fastapi.Request) -> fastapi.Response:
        accept = request.headers.get("accept", "")
        content, content_type = services.metrics.exposition(services, accept, newest)
        return fastapi.Response(content, headers={"Content-Type": content_type})

    return found
