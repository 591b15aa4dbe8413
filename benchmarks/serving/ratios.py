"""Turns measurements into medians and ratios."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.serving.bodies import BodySize
from benchmarks.serving.load import Generator
from benchmarks.serving.rounds import ONNXRUNTIME, Measurement
from benchmarks.serving.servers import NOOP, OURS


@dataclass(frozen=True)
class Cell:
    """One server under one load, over all rounds.

    Attributes:
        server: Its name.
        body: The size of the bodies.
        connections: How many requests were under way at once.
        rate: Requests a second, the median of the rounds.
        rates: Of each round.
        errors: In all rounds.
        median_ms: Median latency, the median of the rounds.
        p99_ms: Likewise the 99th percentile.
        processor_us: Processor time of the server per request, likewise.
        database_us: Processor time of the prediction log's database per request, likewise.
        ours_by_rate: How many times as many requests a second ours answers, the median of the
            ratios within each round; None where ours was not measured.
        ours_by_processor: How many times as much processor time it takes as ours, likewise.
    """

    server: str
    body: BodySize
    connections: int
    rate: float
    rates: tuple[float, ...]
    errors: int
    median_ms: float
    p99_ms: float
    processor_us: float
    database_us: float
    ours_by_rate: float | None
    ours_by_processor: float | None


def summarise(measurements: Iterable[Measurement]) -> list[Cell]:
    """Join the rounds; rounds are compared one by one, since the machine's speed varies."""
    groups: dict[tuple[str, BodySize, int], list[Measurement]] = defaultdict(list)
    for one in measurements:
        groups[one.server, one.body, one.connections].append(one)
    cells = []
    for (server, body, connections), group in groups.items():
        ours = {
            one.round: one
            for (name, size, count), others in groups.items()
            if name == OURS and size == body and (count == connections or server == ONNXRUNTIME)
            for one in others
        }
        pairs = [(ours[one.round], one) for one in group if one.round in ours]
        cells.append(
            Cell(
                server,
                body,
                connections,
                _median(group, lambda one: one.rate),
                tuple(one.rate for one in group),
                sum(one.errors for one in group),
                _median(group, lambda one: one.median_ms),
                _median(group, lambda one: one.p99_ms),
                _median(group, lambda one: one.processor_us),
                _median(group, lambda one: one.database_us),
                _ratio([(mine.rate, other.rate) for mine, other in pairs]),
                _ratio([(other.processor_us, mine.processor_us) for mine, other in pairs]),
            )
        )
    return cells


@dataclass(frozen=True)
class Target:
    """A ratio that ours has to reach.

    Attributes:
        body: The size of the bodies.
        connections: How many requests are under way at once.
        server: What ours is compared with.
        least: The smallest ratio of requests a second that will do.
    """

    body: BodySize
    connections: int
    server: str
    least: float


TARGETS = (
    Target(BodySize(1), 8, "mlflow", 30.0),
    Target(BodySize(1), 8, "mlserver", 10.0),
    Target(BodySize(1), 8, "tutorial", 18.0),
    Target(BodySize(1), 8, NOOP, 0.35),
    Target(BodySize(10_000, by_columns=True), 8, "mlflow", 4.0),
    Target(BodySize(10_000, by_columns=True), 8, "mlserver", 1.8),
)


@dataclass(frozen=True)
class Judgement:
    """A target with what was measured."""

    target: Target
    measured: float

    @property
    def is_reached(self) -> bool:
        """Whether it will do."""
        return self.measured >= self.target.least


def judge(cells: Sequence[Cell], generator: Generator) -> list[Judgement]:
    """The targets that were measured.

    The no-op application is no target where our own load generator sends the small bodies, since
    it answers more quickly than that can ask, and the ratio would look better than it is.
    """
    found = {(one.body, one.connections, one.server): one.ours_by_rate for one in cells}
    judged = []
    for target in TARGETS:
        if target.server == NOOP and generator == "own":
            continue
        measured = found.get((target.body, target.connections, target.server))
        if measured is not None:
            judged.append(Judgement(target, measured))
    return judged


def _median(group: Sequence[Measurement], value: Callable[[Measurement], float]) -> float:
    return statistics.median(value(one) for one in group)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    ratios = [one / other for one, other in pairs if other > 0]
    return statistics.median(ratios) if ratios else None
