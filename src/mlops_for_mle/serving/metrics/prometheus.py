"""Counts what happens, for Prometheus and for the page.

The hot path only adds to numbers in this process. Where several processes serve, each publishes
its numbers twice a second in a folder that all share, and whichever is asked sums them, so that a
scrape may reach any of them.
"""

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.guards.request_context import current_request
from mlops_for_mle.serving.metrics.recent import RecentPredictions, RecentView
from mlops_for_mle.serving.recording import AnsweredPredictions

# Seconds; the last bucket is everything beyond.
LATENCY_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

_PUBLISH_SECONDS = 0.5
_BUCKETS = len(LATENCY_BOUNDS) + 1

Combine = Literal["sum", "max", "min"]


class RequestCount(msgspec.Struct):
    """The requests of one route with one status: how many took how long."""

    route: str
    status: int
    seconds: float
    buckets: list[int]


class PredictionCount(msgspec.Struct):
    """How often a model version gave a class; ``value`` is None for a regression."""

    contract: str
    model_version: int
    value: int | None
    label: str
    count: int


class ModelInfo(msgspec.Struct):
    """The release that a process serves."""

    contract: str
    release: str
    model_version: int
    run_id: str
    loaded_at: float


class Reading(msgspec.Struct):
    """A number that another part of the server gave."""

    name: str
    description: str
    value: float
    kind: Literal["gauge", "counter"]
    combine: Combine


class Snapshot(msgspec.Struct):
    """The numbers of one process."""

    pid: int
    requests: list[RequestCount]
    predictions: list[PredictionCount]
    readings: list[Reading]
    model: ModelInfo | None
    swaps: int
    failures: int
    recent: RecentView


class _ServedCounts:
    """What one release has predicted; holds its manifest, so that its identity stays its own."""

    __slots__ = ("counts", "is_classifier", "manifest")

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.is_classifier = manifest.contract.target.task == "classification"
        self.counts: dict[int | None, int] = {}


class PrometheusMetrics:
    """Implements ``recording.ServingMetrics``; safe in several threads."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start at zero.

        Args:
            folder: Where the processes of one server publish their numbers; None for one process.
        """
        self._folder = folder
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], list[float]] = {}
        # By identity, since hashing a whole manifest takes longer than a prediction.
        self._served: dict[int, _ServedCounts] = {}
        self._readers: dict[str, tuple[str, Callable[[], float], Combine, bool]] = {}
        self._recent = RecentPredictions()
        self._model: ModelInfo | None = None
        self._swaps = -1
        self._failures = 0
        self._file = folder / f"{os.getpid()}-{time.time_ns()}.json" if folder else None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to publish, where there are several processes."""
        if self._file is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Publish once more and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1)
            self._publish()

    def answered(self, *answered: AnsweredPredictions) -> None:
        """Rows of some requests were predicted by one release."""
        facts = current_request.get()
        if facts is not None:
            facts.prediction_id = answered[0].prediction_id
        manifest = answered[0].manifest
        served = self._served.get(id(manifest)) or self._remember(manifest)
        counts = [_counts(one, served.is_classifier) for one in answered]
        with self._lock:
            for one, found in zip(answered, counts, strict=True):
                for value, count in found.items():
                    served.counts[value] = served.counts.get(value, 0) + count
                self._recent.add(one, found)

    def requested(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` may begin with its method."""
        key = (route, status)
        with self._lock:
            cell = self._requests.get(key)
            if cell is None:
                cell = self._requests[key] = [0.0] * (_BUCKETS + 1)
            cell[bisect_left(LATENCY_BOUNDS, seconds)] += 1
            cell[_BUCKETS] += seconds

    def release_loaded(self, manifest: Manifest) -> None:
        """A release took over."""
        with self._lock:
            self._swaps += 1
            self._model = ModelInfo(
                contract=manifest.contract.name,
                release=manifest.release,
                model_version=manifest.model.version,
                run_id=manifest.model.run_id,
                loaded_at=time.time(),
            )

    def release_failed(self, release: str) -> None:
        """A deployed release could not be loaded."""
        with self._lock:
            self._failures += 1

    def gauge(
        self, name: str, description: str, read: Callable[[], float], combine: Combine = "sum"
    ) -> None:
        """Show a number that another part of the server knows.

        Args:
            name: Prometheus' name for it, such as ``mlops_spool_depth``.
            description: One sentence with the unit.
            read: Gives the number; called at a scrape and twice a second where several processes
                serve, from another thread.
            combine: How the numbers of several processes become one.
        """
        self._readers[name] = (description, read, combine, False)

    def counter(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show a number that only grows, such as ``mlops_spool_dropped_total``."""
        self._readers[name] = (description, read, "sum", True)

    def snapshots(self) -> list[Snapshot]:
        """The numbers of every process of this server, those of ended ones included."""
        if self._folder is None:
            return [self._snapshot()]
        # What was published only grows, so that two scrapes never see a counter go back.
        self._publish()
        decoder = msgspec.json.Decoder(Snapshot)
        found = []
        for path in sorted(self._folder.glob("*.json")):
            snapshot = decoder.decode(path.read_bytes())
            if not _is_running(snapshot.pid):
                snapshot.model = None
                snapshot.readings = [one for one in snapshot.readings if one.kind == "counter"]
            found.append(snapshot)
        return found

    def _snapshot(self) -> Snapshot:
        readings = [
            Reading(name, text, float(read()), "counter" if grows else "gauge", combine)
            for name, (text, read, combine, grows) in list(self._readers.items())
        ]
        with self._lock:
            return Snapshot(
                pid=os.getpid(),
                requests=[
                    RequestCount(route, status, cell[_BUCKETS], [int(n) for n in cell[:_BUCKETS]])
                    for (route, status), cell in self._requests.items()
                ],
                predictions=[
                    _prediction_count(served.manifest, value, count)
                    for served in self._served.values()
                    for value, count in served.counts.items()
                ],
                readings=readings,
                model=self._model,
                swaps=max(0, self._swaps),
                failures=self._failures,
                recent=self._recent.view(),
            )

    def _remember(self, manifest: Manifest) -> _ServedCounts:
        with self._lock:
            return self._served.setdefault(id(manifest), _ServedCounts(manifest))

    def _run(self) -> None:
        while not self._stopping.wait(_PUBLISH_SECONDS):
            self._publish()

    def _publish(self) -> None:
        if self._file is None:
            return
        content = msgspec.json.encode(self._snapshot())
        partial = self._file.with_suffix(f".{threading.get_ident()}")
        partial.write_bytes(content)
        partial.replace(self._file)


def _counts(answered: AnsweredPredictions, is_classifier: bool) -> dict[int | None, int]:
    """How often each class was predicted; all rows of a regression count together."""
    values = answered.predictions.values
    if not is_classifier:
        return {None: len(values)}
    if len(values) == 1:
        return {int(values.item()): 1}
    found, numbers = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))


def _prediction_count(manifest: Manifest, value: int | None, count: int) -> PredictionCount:
    labels = manifest.contract.target.labels
    label = "" if value is None else labels.get(value, str(value))
    return PredictionCount(manifest.contract.name, manifest.model.version, value, label, count)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
