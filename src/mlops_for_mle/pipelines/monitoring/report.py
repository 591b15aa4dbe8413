"""What people are told of a run: a few lines, and one HTML document that needs nothing else."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun, percent
from mlops_for_mle.pipelines.monitoring.counting import Window
from mlops_for_mle.pipelines.monitoring.reference import Column, Reference
from mlops_for_mle.pipelines.monitoring.significance import CONFIDENCE

_TEMPLATE = Path(__file__).with_name("report.html")
_TWO_DAYS = 2 * 86_400.0


def write_report(run: MonitoringRun, reference: Reference, windows: dict[str, Window]) -> str:
    """Write a recorded run for people, as HTML."""
    from jinja2 import Environment

    # Escapes everything, since names of features and classes may hold any character.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    target = reference.contract.target
    return template.render(
        run=run,
        reference=reference,
        windows=windows,
        confidence=CONFIDENCE,
        compare_bins=compare_bins,
        quantity=quantity,
        # The last one has the index -1.
        classes=[*target.labels.values(), "other"],
        confusion={(cell.actual, cell.predicted): cell.count for cell in windows[""].rated},
    )


def summarise(run: MonitoringRun) -> str:
    """What a person is told of a run, in a few lines."""
    lines = [("status", run.status), *(("", reason) for reason in run.reasons)]
    lines.append(("release", run.release))
    # The newest labelled predictions may be older than the newest predictions.
    for name, count, begin, end in (
        ("window", run.prediction_count, run.window_from, run.window_to),
        ("labels", run.labelled_count, run.labelled_from, run.labelled_to),
    ):
        text = f"{count} predictions"
        if begin is not None and end is not None:
            # Each with its zone, since a clock may be put back between them.
            text += f", {begin.astimezone():%Y-%m-%d %H:%M:%S %Z}"
            text += f" to {end.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        lines.append((name, text))
    values = {metric.metric: metric.value for metric in run.metrics if not metric.segment}
    for metric in ("accuracy", "rmse"):
        if f"estimated_{metric}" in values:
            text = f"{metric} {values[f'estimated_{metric}']:.4g} estimated"
            measured = f", {values[metric]:.4g} measured" if metric in values else ""
            lines.append(("answers", text + measured))
    return "\n".join(f"  {name:<7}  {value}" for name, value in lines)


def compare_bins(column: Column, current: Column) -> list[tuple[str, float, float]]:
    """Each bin for people, and its share of the reference and of the window; others if any."""
    names = ["other", *column.categories]
    if column.is_number:
        edges = [_edge(column, edge) for edge in column.edges]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        names = [f"below {edges[0]}", *between, f"from {edges[-1]}"] if edges else ["all"]
    bins = list(zip(names, column.shares, current.shares, strict=True))
    return bins if column.is_number or any(bins[0][1:]) else bins[1:]


def quantity(metric: str, value: float | None) -> str:
    """A value of a metric for people, such as ``4.2 %``."""
    if value is None or metric.endswith("_fraction"):
        return percent(value)
    return f"{value:.0f}" if metric.endswith("_count") else f"{value:.4g}"


def _edge(column: Column, value: float) -> str:
    if column.kind != "time":
        return f"{value:.6g}"
    # Years of `datetime` end where those of a feature may, and an edge may lie beyond its values.
    moment = np.datetime64(int(value), "s")
    if column.scale > _TWO_DAYS:
        return str(moment.astype("datetime64[D]"))
    return str(moment.astype("datetime64[m]"))[-11:].replace("T", " ")
