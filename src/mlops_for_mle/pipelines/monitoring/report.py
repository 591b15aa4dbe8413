"""The report of a run: one HTML document that needs nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_for_mle.monitoring_run import MonitoringMetric, MonitoringRun
from mlops_for_mle.pipelines.monitoring.calibration import reliability
from mlops_for_mle.pipelines.monitoring.charts import (
    HEIGHT,
    SQUARE,
    WIDTH,
    BinChart,
    draw_bins,
    draw_reliability,
    tell_value,
)
from mlops_for_mle.pipelines.monitoring.drift import INDEX, MEAN_SHIFT
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.performance import confusion_matrix
from mlops_for_mle.pipelines.monitoring.profile import PREDICTION, free_subject
from mlops_for_mle.records_monitoring import ReferenceColumn, ReferenceProfile, WindowCounts

_TEMPLATE = Path(__file__).with_name("report.html")

_NOTHING = "-"
_UNITS = ("_fraction", "_seconds")


@dataclass(frozen=True)
class ColumnView:
    """A feature, or the prediction, as the report shows it."""

    name: str
    unit: str
    chart: BinChart
    index: MonitoringMetric | None
    shift: float | None
    summary: str


def render(
    run: MonitoringRun,
    reference: ReferenceProfile,
    window: WindowCounts,
    options: MonitoringOptions,
) -> str:
    """Write the report.

    Args:
        run: What was judged and recorded.
        reference: What the window was compared with.
        window: What was counted.
        options: What the thresholds were.
    """
    from jinja2 import Environment

    # Escapes everything, since names of features and classes may hold any character.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=_number, share=_share, name=_name, duration=_duration)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    target = reference.contract.target
    rated = [cell for cell in window.classified if cell.confidence_bin is not None]
    class_names = [one.label for one in target.classes]
    matrix = confusion_matrix(window.classified, len(class_names))
    if matrix[-1].any() or matrix[:, -1].any():
        class_names.append("other")
    confusion = matrix[: len(class_names), : len(class_names)].tolist() if matrix.any() else []
    bins = reliability(rated, options.calibration.bins, options.confidence)
    return template.render(
        run=run,
        reference=reference,
        window=window,
        options=options,
        columns=[_view(run, reference, window, one) for one in reference.features],
        prediction=_view(run, reference, window, reference.prediction),
        performance=list(_in_area(run, "performance")),
        calibration=[
            one for one in _in_area(run, "calibration") if not one.subject.startswith("confidence ")
        ],
        quality=_by_subject(_in_area(run, "data_quality")),
        class_names=class_names,
        confusion=confusion,
        reliability=bins,
        dots=draw_reliability(bins),
        size={"width": WIDTH, "height": HEIGHT, "square": SQUARE},
    )


def _view(
    run: MonitoringRun, reference: ReferenceProfile, window: WindowCounts, one: ReferenceColumn
) -> ColumnView:
    name = one.column.name
    contract = reference.contract
    is_prediction = one is reference.prediction
    counts = window.prediction if is_prediction else window.features[name]
    subject = free_subject(PREDICTION, contract) if is_prediction else name
    found = {
        metric.metric: metric for metric in _in_area(run, "drift") if metric.subject == subject
    }
    shift = found.get(MEAN_SHIFT)
    summary = ""
    if counts.mean is not None and counts.least is not None and counts.largest is not None:
        mean, least, largest = (
            tell_value(one.column, value) for value in (counts.mean, counts.least, counts.largest)
        )
        summary = f"mean {mean}, {least} to {largest}"
    return ColumnView(
        name=f"prediction of {contract.target.response_name}" if is_prediction else name,
        unit="" if is_prediction else contract.features[name].unit or "",
        chart=draw_bins(one.column, one.counts, counts.counts),
        index=found.get(INDEX),
        shift=shift.value if shift else None,
        summary=summary,
    )


def _in_area(run: MonitoringRun, area: str) -> Iterable[MonitoringMetric]:
    return (metric for metric in run.metrics if metric.area == area)


def _by_subject(metrics: Iterable[MonitoringMetric]) -> dict[str, list[MonitoringMetric]]:
    found: dict[str, list[MonitoringMetric]] = {}
    for metric in metrics:
        found.setdefault(metric.subject, []).append(metric)
    return found


def _number(value: Any) -> str:
    return _NOTHING if value is None else f"{value:.4g}"


def _share(value: Any) -> str:
    return _NOTHING if value is None else f"{100 * value:.3g} %"


def _duration(seconds: Any) -> str:
    if seconds is None:
        return _NOTHING
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _name(text: str) -> str:
    for unit in _UNITS:
        text = text.removesuffix(unit)
    return text.replace("_", " ")
