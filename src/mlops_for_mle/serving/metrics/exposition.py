"""Prometheus' view of the numbers: names, types and labels."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from mlops_for_mle.serving.metrics.monitoring_gauges import monitoring_families
from mlops_for_mle.serving.metrics.prometheus import (
    LATENCY_BOUNDS,
    Combine,
    PrometheusMetrics,
    Reading,
    Snapshot,
)
from mlops_for_mle.serving.stores.monitoring_store import MonitoringRun

_BOUND_NAMES = [*(str(bound) for bound in LATENCY_BOUNDS), "+Inf"]


def exposition(
    metrics: PrometheusMetrics, accept: str, monitored: MonitoringRun | None = None
) -> tuple[bytes, str]:
    """The numbers in the text form that the scraper prefers, and its type.

    Args:
        metrics: Those of all processes of this server.
        accept: The scraper's header.
        monitored: The newest monitoring run.
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(metrics.snapshots(), monitored))
    return encode(registry), content_type


class _Collected(Collector):
    def __init__(self, snapshots: list[Snapshot], monitored: MonitoringRun | None) -> None:
        self._snapshots = snapshots
        self._monitored = monitored

    def collect(self) -> Iterator[Metric]:
        yield from _requests(self._snapshots)
        yield _predictions(self._snapshots)
        yield from _releases(self._snapshots)
        yield from _readings(self._snapshots)
        yield from monitoring_families(self._monitored)


def _requests(snapshots: list[Snapshot]) -> Iterator[Metric]:
    labels = ("route", "method", "status")
    buckets: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0] * len(_BOUND_NAMES))
    seconds: dict[tuple[str, str, str], float] = defaultdict(float)
    for snapshot in snapshots:
        for one in snapshot.requests:
            method, _, route = one.route.rpartition(" ")
            if route.startswith("/"):
                # The hot routes, which take one method, do not name it.
                method = method or "POST"
            key = (route, method, str(one.status))
            buckets[key] = [a + b for a, b in zip(buckets[key], one.buckets, strict=True)]
            seconds[key] += one.seconds
    count = CounterMetricFamily("mlops_requests", "Requests that were answered.", labels=labels)
    histogram = HistogramMetricFamily(
        "mlops_request_duration_seconds",
        "Time from the arrival of a request to its answer, in seconds.",
        labels=labels,
    )
    for key, values in sorted(buckets.items()):
        running = 0
        cumulated: list[tuple[str, float]] = []
        for bound, value in zip(_BOUND_NAMES, values, strict=True):
            running += value
            cumulated.append((bound, running))
        count.add_metric(key, running)
        histogram.add_metric(key, cumulated, seconds[key])
    yield count
    yield histogram


def _predictions(snapshots: list[Snapshot]) -> Metric:
    totals: dict[tuple[str, str, str], int] = defaultdict(int)
    for snapshot in snapshots:
        for one in snapshot.predictions:
            totals[one.contract, str(one.model_version), one.label] += one.count
    family = CounterMetricFamily(
        "mlops_predictions",
        "Rows that were predicted, by class; a regression has no class.",
        labels=("contract", "model_version", "class"),
    )
    for labels, total in sorted(totals.items()):
        family.add_metric(labels, total)
    return family


def _releases(snapshots: list[Snapshot]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "mlops_model_info",
        "Processes that serve this release.",
        labels=("contract", "release", "model_version", "run_id"),
    )
    serving: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for snapshot in snapshots:
        if (one := snapshot.model) is not None:
            key = (one.contract, one.release, str(one.model_version), one.run_id)
            serving[key].append(one.loaded_at)
    loaded = GaugeMetricFamily(
        "mlops_model_loaded_timestamp_seconds",
        "When the release took over in the first process that serves it, seconds since 1970.",
        labels=("contract", "release"),
    )
    for served, times in sorted(serving.items()):
        info.add_metric(served, len(times))
        loaded.add_metric(served[:2], min(times))
    yield info
    yield loaded
    yield CounterMetricFamily(
        "mlops_release_swaps",
        "Releases that took over from another, counted in each process.",
        value=sum(one.swaps for one in snapshots),
    )
    yield CounterMetricFamily(
        "mlops_release_failures",
        "Deployed releases that could not be loaded, counted in each process.",
        value=sum(one.failures for one in snapshots),
    )


def _readings(snapshots: list[Snapshot]) -> Iterator[Metric]:
    found: dict[str, list[Reading]] = defaultdict(list)
    for snapshot in snapshots:
        for one in snapshot.readings:
            found[one.name].append(one)
    for name, readings in sorted(found.items()):
        first = readings[0]
        value = _combined(first.combine, (one.value for one in readings))
        if first.kind == "counter":
            yield CounterMetricFamily(name.removesuffix("_total"), first.description, value=value)
        else:
            yield GaugeMetricFamily(name, first.description, value=value)


def _combined(combine: Combine, values: Iterable[float]) -> float:
    if combine == "sum":
        return sum(values)
    return max(values) if combine == "max" else min(values)
