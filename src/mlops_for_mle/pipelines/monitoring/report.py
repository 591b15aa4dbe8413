"""The report of a run: one HTML document that needs nothing else."""

import io
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from mlops_for_mle.pipelines.monitoring.checks import as_share, confusion_matrix
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.record import Area, Metric, MonitoringRun
from mlops_for_mle.pipelines.monitoring.reference import PREDICTION, Column, Reference
from mlops_for_mle.pipelines.monitoring.window import ColumnCounts, Window

_TEMPLATE = Path(__file__).with_name("report.html")
# Legible on a light and on a dark ground.
_BEFORE, _NOW, _INK = "#93a1ad", "#2f8f7b", "#808a86"
_SIZE = (3.6, 1.5)
_TWO_DAYS = 2 * 86_400.0
_MOST_LABELS = 8


@dataclass(frozen=True)
class MonitoringReport:
    """A recorded run and its report for people, one HTML document."""

    run: MonitoringRun
    html: str = field(repr=False)


def write_report(
    run: MonitoringRun, reference: Reference, window: Window, monitoring: MonitoringOptions
) -> MonitoringReport:
    """Write a recorded run for people."""
    from jinja2 import Environment

    # Escapes everything, since names of features and classes may hold any character.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(quantity=_quantity, words=_words)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    contract, classes = reference.contract, reference.contract.target.classes
    metrics: dict[Area, list[Metric]] = {}
    for one in run.metrics:
        metrics.setdefault(one.area, []).append(one)
    steps = [one for one in metrics.get("calibration", []) if one.subject.startswith("confidence ")]
    response = f"prediction of {contract.target.response_name}"
    answered = draw_bins(reference.prediction, window.prediction)
    charts = [(response, "", reference.subject(PREDICTION), answered)]
    for column in reference.features:
        chart = draw_bins(column, window.features[column.name])
        charts.append((column.name, contract.features[column.name].unit or "", column.name, chart))
    html = template.render(
        run=run,
        reference=reference,
        options=monitoring,
        metrics=metrics,
        charts=charts,
        drift={(one.subject, one.metric): one for one in metrics.get("drift", [])},
        classes=[*(one.label for one in classes), "other"],
        confusion=confusion_matrix(window.cells, len(classes)).tolist() if window.cells else [],
        reliability=draw_reliability(steps) if steps else "",
    )
    return MonitoringReport(run, html)


def draw_bins(column: Column, counts: ColumnCounts) -> str:
    """The shares of the reference and of the window in each bin, side by side, as SVG."""
    figure, axes = _axes(_SIZE)
    names = bin_names(column)
    for offset, bins, colour in ((-0.2, column.counts, _BEFORE), (0.2, counts.bins, _NOW)):
        shares = [count / max(1, sum(bins)) for count in bins]
        places = [place + offset for place in range(len(names))]
        axes.bar(places, shares, 0.38, color=colour)
    axes.set_yticks([])
    if column.is_number:
        # Below the borders of bins, every other one where there are many.
        edges = [tell(column, edge) for edge in column.edges]
        every = 1 + sum(map(len, edges)) // 45
        axes.set_xticks([place + 0.5 for place in range(len(edges))][::every], edges[::every])
    elif len(names) <= _MOST_LABELS:
        short = max(3, 40 // len(names))
        shown = [name if len(name) <= short else f"{name[: short - 1]}…" for name in names]
        axes.set_xticks(range(len(names)), shown)
    else:
        axes.set_xticks([])
    return _svg(figure)


def draw_reliability(steps: list[Metric]) -> str:
    """How often answers were right against how sure they were, with intervals, as SVG."""
    figure, axes = _axes((2.4, 2.4))
    sure, right = ([getattr(one, name) for one in steps] for name in ("threshold", "value"))
    lower = [(one.value or 0) - (one.lower or 0) for one in steps]
    upper = [(one.upper or 0) - (one.value or 0) for one in steps]
    axes.plot([0, 1], [0, 1], color=_BEFORE, linestyle="--", linewidth=0.8)
    axes.errorbar(sure, right, yerr=[lower, upper], fmt="o", color=_NOW, markersize=4)
    axes.set_xlabel("probability of the answer", color=_INK, fontsize=8)
    axes.set_ylabel("right", color=_INK, fontsize=8)
    return _svg(figure)


def bin_names(column: Column) -> list[str]:
    """The bins for people."""
    if not column.is_number:
        return ["other", *column.categories]
    edges = [tell(column, edge) for edge in column.edges]
    if not edges:
        return ["all"]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]}"]


def tell(column: Column, value: float) -> str:
    """A value of a column of numbers for people; dates and times as such."""
    if column.kind != "time":
        return f"{value:.4g}"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    return moment.strftime("%Y-%m-%d" if column.scale > _TWO_DAYS else "%m-%d %H:%M")


def _axes(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=7, length=0)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    drawn = io.StringIO()
    # Words stay words, which the reader's own fonts show in any language.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}), catch_warnings():
        # That Matplotlib's font, which then is not used, lacks a letter.
        simplefilter("ignore")
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    return re.sub(
        r' id="(figure|axes|patch|matplotlib|text|line2d)[^"]*"', "", svg[svg.index("<svg") :]
    )


def _quantity(metric: Metric, value: float | None) -> str:
    """A value of a metric for people."""
    if value is None:
        return "-"
    if metric.metric.endswith("_fraction"):
        return as_share(value)
    if not metric.metric.endswith("_seconds"):
        return f"{value:.4g}"
    sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next(((size, unit) for size, unit in sizes if value >= size), sizes[-1])
    return f"{value / size:.3g} {unit}"


def _words(name: str) -> str:
    return name.removesuffix("_fraction").removesuffix("_seconds").replace("_", " ")
