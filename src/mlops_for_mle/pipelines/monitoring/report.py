"""What people are told of a run: a few lines, and one HTML document that needs nothing else."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import get_args

from mlops_for_mle.pipelines.monitoring.checks import confusion_matrix, quantity
from mlops_for_mle.pipelines.monitoring.counting import ColumnCounts, Window
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.record import Area, MonitoringRun
from mlops_for_mle.pipelines.monitoring.reference import PREDICTION, Column, Reference

_TEMPLATE = Path(__file__).with_name("report.html")
_TWO_DAYS = 2 * 86_400.0


def write_report(
    run: MonitoringRun, reference: Reference, window: Window, monitoring: MonitoringOptions
) -> tuple[MonitoringRun, str]:
    """Write a recorded run for people; gives both."""
    from jinja2 import Environment

    # Escapes everything, since names of features and classes may hold any character.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    contract, classes = reference.contract, reference.contract.target.classes
    areas: tuple[Area, ...] = get_args(Area)
    whole = [one for one in run.metrics if not one.segment]
    metrics = {area: [one for one in whole if one.area == area] for area in areas}
    response, subject = contract.target.response_name, reference.subject(PREDICTION)
    answered = compare_bins(reference.prediction, window.prediction)
    charts = [(f"prediction of {response}", "", subject, answered)]
    for one in reference.features:
        unit, compared = contract.features[one.name].unit, window.features[one.name]
        charts.append((one.name, unit or "", one.name, compare_bins(one, compared)))
    html = template.render(
        quantity=quantity,
        run=run,
        reference=reference,
        options=monitoring,
        metrics=metrics,
        charts=charts,
        drift={(one.subject, one.metric): one for one in metrics["drift"]},
        classes=[*(one.label for one in classes), "other"],
        confusion=confusion_matrix(window.cells, len(classes)).tolist() if window.cells else [],
    )
    return run, html


def summarise(run: MonitoringRun) -> str:
    """What a person is told of a run, in a few lines."""
    window = f"{run.prediction_count} predictions, {run.labelled_count} with a true label"
    if run.window_from is not None and run.window_to is not None:
        begin, end = (one.astimezone() for one in (run.window_from, run.window_to))
        window += f", {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}"
    told = [("", reason) for reason in run.reasons]
    lines = [("status", run.status), *told, ("release", run.release), ("window", window)]
    whole = {one.metric: one.value for one in run.metrics if not one.segment}
    for metric in ("accuracy", "rmse", "mae"):
        known = [(f"estimated_{metric}", "estimated"), (metric, "measured")]
        values = [f"{whole[one]:.4g} {how}" for one, how in known if whole.get(one) is not None]
        if f"estimated_{metric}" in whole:
            lines.append(("answers", f"{metric} {', '.join(values)}"))
    return "\n".join(f"  {name:<7}  {value}" for name, value in lines)


def compare_bins(column: Column, counts: ColumnCounts) -> list[tuple[str, float, float]]:
    """Each bin for people, and its share of the reference and of the window."""
    before, now = (
        [count / max(1, sum(bins)) for count in bins] for bins in (column.counts, counts.bins)
    )
    if not column.is_number:
        names = ["other", *column.categories]
    else:
        edges = [_edge(column, edge) for edge in column.edges]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        names = [f"below {edges[0]}", *between, f"from {edges[-1]}"] if edges else ["all"]
    return list(zip(names, before, now, strict=True))


def _edge(column: Column, value: float) -> str:
    if column.kind != "time":
        return f"{value:.4g}"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    return moment.strftime("%Y-%m-%d" if column.scale > _TWO_DAYS else "%m-%d %H:%M")
