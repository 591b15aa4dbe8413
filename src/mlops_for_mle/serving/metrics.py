"""What the server counts, for Prometheus: ``GET /metrics``.

``prometheus_client`` keeps the counts: in this process where it is the only one, else in files of
a folder that all workers share, so that a scrape may reach any of them.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import fastapi
import numpy as np
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlops_for_mle.serving.monitoring import newest_run
from mlops_for_mle.serving.openapi import TEXT, json_answer
from mlops_for_mle.serving.server import METRICS_FOLDER

if TYPE_CHECKING:
    from mlops_for_mle.serving.predict import Inference
    from mlops_for_mle.serving.services import Services

disable_created_metrics()  # type: ignore[no-untyped-call]

_LATENCY_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_SPOOL = {
    "shipped": "Rows that were written to the database, those of ended processes included.",
    "damaged": "Lines that were set aside: they cannot be read, or the database refuses them.",
    "torn": "Last lines of killed processes, which were not answered.",
}


class Metrics:
    """Counts what happens; safe in several threads.

    ``duration_of`` gives the histogram of a route, method and status, in seconds; ``spool`` holds
    what becomes of the prediction log: shipped, damaged, torn.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mlops_{name}", text, labels, registry=registry)

        durations = Histogram(
            "mlops_request_duration_seconds",
            "Time from the arrival of a request to its answer, in seconds.",
            ("route", "method", "status"),
            buckets=_LATENCY_SECONDS,
            registry=registry,
        )
        text = "Rows that were predicted, by class; a regression has no class."
        predictions = counter("predictions", text, "contract", "model_version", "class")
        text = "Values that lie outside what the model was trained on, by feature."
        outside = counter("outside_training", text, "contract", "model_version", "feature")
        self.spool = {name: counter(f"spool_{name}", text) for name, text in _SPOOL.items()}
        self.swaps = counter("release_swaps", "Releases that took over from another.")
        self.failures = counter("release_failures", "Releases that could not be loaded.")
        # Cached, since looking a counter up costs as much as counting.
        self.duration_of = cache(durations.labels)
        self._predictions_of = cache(predictions.labels)
        self._outside_of = cache(outside.labels)

    def predicted(self, inferences: Sequence["Inference"]) -> None:
        """Count the rows of some requests, which one release has predicted."""
        served = inferences[0].served
        contract, version = served.contract, served.manifest.version
        parts = [part for inference in inferences for part in inference.parts]
        labels, codes = contract.target.labels, served.answers.codes
        values = [part.values for part in parts]
        # A large request part by part, since counting takes the memory of its rows again.
        for batch in values if len(inferences) == 1 else [np.concatenate(values)]:
            counts = {"": len(batch)}
            if labels:
                by_class = np.bincount(codes.searchsorted(batch)).tolist()
                counts = dict(zip(labels.values(), by_class, strict=False))
            for name, count in counts.items():
                if count:
                    self._predictions_of(contract.name, version, name).inc(count)
        for part in parts:
            if part.outside is not None:
                by_feature = part.outside.sum(axis=0).tolist()
                for name, count in zip(contract.features, by_feature, strict=True):
                    self._outside_of(contract.name, version, name).inc(count)


class _Collector(Collector):
    """The counts of all processes, the state of the one that is asked, and the newest run."""

    def __init__(self, services: "Services") -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        counts: Collector = services.metrics.registry
        if folder := os.environ.get(METRICS_FOLDER):
            counts = multiprocess.MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
        yield from counts.collect()
        log, releases = services.log, services.releases
        served, is_available = releases.current, releases.database.available
        for name, value, text in (
            ("ready", served is not None, "1 when a release is in service."),
            ("deployment_failed", releases.failure is not None, "1 when the newest cannot be."),
            ("database_available", bool(is_available), "1 when the database answered last."),
            ("spool_bytes", log.stored_bytes, "Predictions that wait for the database, in bytes."),
            ("spool_limit_bytes", log.max_bytes, "The most that may wait."),
        ):
            yield GaugeMetricFamily(f"mlops_{name}", text, value)
        labels = ("contract", "release", "model_version", "run_id")
        info = GaugeMetricFamily("mlops_model_info", "The model in service.", labels=labels)
        if served is not None:
            name, manifest = served.contract.name, served.manifest
            facts = (name, manifest.release, str(manifest.version), manifest.run_id)
            info.add_metric(facts, 1)
        yield info
        yield from newest_run(services)


def router(services: "Services") -> fastapi.APIRouter:
    """The route."""
    routes = fastapi.APIRouter(tags=["operation"])
    text = "The numbers of all worker processes, and those of the newest monitoring run"

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=fastapi.Response,
        responses={200: json_answer(text, TEXT, media="text/plain")},
    )
    def scrape() -> fastapi.Response:
        content = generate_latest(_Collector(services))
        return fastapi.Response(content, media_type=CONTENT_TYPE_LATEST)

    return routes
