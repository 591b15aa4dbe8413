"""What the report draws, as coordinates; the template makes them SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil

from mlops_for_mle.pipelines.monitoring.calibration import ReliabilityBin
from mlops_for_mle.records_monitoring import MonitoredColumn, NumericColumn

WIDTH, HEIGHT = 340, 130
SQUARE = 220

_TWO_DAYS = 2 * 86_400

_BASE = 104
_TOP = 8
_LEFT = 6
_MARGIN = 26


@dataclass(frozen=True)
class Bar:
    """A column of a chart; ``title`` is read out where a pointer rests."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Label:
    """A word at a place below a chart."""

    x: float
    text: str


@dataclass(frozen=True)
class BinChart:
    """The shares of the reference and of the window in each bin, side by side."""

    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Dot:
    """A step of probability: how sure the answers are, and how many are right."""

    x: float
    y: float
    low: float
    high: float
    radius: float
    title: str


def draw_bins(
    column: MonitoredColumn, reference: Sequence[int], current: Sequence[int]
) -> BinChart:
    """Draw two samples that were counted in the same bins."""
    names = bin_names(column)
    before, now = _shares(reference), _shares(current)
    largest = max([*before, *now, 1e-9])
    step = (WIDTH - 2 * _LEFT) / max(1, len(names))
    wide = step * 0.4
    bars = []
    for index, name in enumerate(names):
        for offset, kind, shares in ((0.08, "reference", before), (0.5, "window", now)):
            height = shares[index] / largest * (_BASE - _TOP)
            title = f"{name}: {100 * shares[index]:.1f} % of the {kind}"
            bars.append(
                Bar(_LEFT + step * (index + offset), _BASE - height, wide, height, kind, title)
            )
    return BinChart(tuple(bars), tuple(_labels(column, names, step)))


def bin_names(column: MonitoredColumn) -> list[str]:
    """The bins for people."""
    if not isinstance(column, NumericColumn):
        return list(column.categories)
    edges = [tell_value(column, edge) for edge in column.edges]
    if not edges:
        return ["all"]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]}"]


def tell_value(column: MonitoredColumn, value: float) -> str:
    """A value of a column of numbers for people; dates and times as such."""
    if not isinstance(column, NumericColumn) or not column.is_time:
        return f"{value:.4g}"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    return moment.strftime("%Y-%m-%d" if column.scale > _TWO_DAYS else "%m-%d %H:%M")


def draw_reliability(bins: Sequence[ReliabilityBin]) -> list[Dot]:
    """Draw how often answers are right against how sure they are."""
    inner = SQUARE - 2 * _MARGIN
    most = max((one.count for one in bins), default=1)

    def along(value: float) -> float:
        return _MARGIN + inner * value

    def up(value: float) -> float:
        return SQUARE - _MARGIN - inner * value

    return [
        Dot(
            x=along(one.confidence),
            y=up(one.accuracy),
            low=up(one.lower),
            high=up(one.upper),
            radius=3 + 5 * (one.count / most) ** 0.5,
            title=f"{one.count} answers, {100 * one.confidence:.1f} % sure, "
            f"{100 * one.accuracy:.1f} % right",
        )
        for one in bins
    ]


def _labels(column: MonitoredColumn, names: list[str], step: float) -> list[Label]:
    if isinstance(column, NumericColumn):
        # Below the borders of the bins, every other one where there are many.
        letters = max((len(tell_value(column, edge)) for edge in column.edges), default=1)
        every = max(1, ceil(letters * 7 / step))
        return [
            Label(_LEFT + step * (index + 1), tell_value(column, edge))
            for index, edge in enumerate(column.edges)
            if index % every == 0
        ]
    if len(names) > 8:
        return []
    letters = max(3, int(step / 6))
    return [
        Label(
            _LEFT + step * (index + 0.5),
            name if len(name) <= letters else name[: letters - 1] + "…",
        )
        for index, name in enumerate(names)
    ]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
