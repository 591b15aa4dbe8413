"""What people are told of a run: a few lines, and one HTML document that needs nothing else."""

from pathlib import Path

from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun, percent
from mlops_for_mle.pipelines.monitoring.counting import Window
from mlops_for_mle.pipelines.monitoring.reference import Reference

_TEMPLATE = Path(__file__).with_name("report.html")


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
        if begin and end:
            text += f", {begin:%Y-%m-%d %H:%M:%S %Z} to {end:%Y-%m-%d %H:%M:%S %Z}"
        lines.append((name, text))
    values = {metric.metric: metric.value for metric in run.metrics if not metric.segment}
    for metric in ("accuracy", "rmse"):
        if f"estimated_{metric}" in values:
            text = f"{metric} {values[f'estimated_{metric}']:.4g} estimated"
            measured = f", {values[metric]:.4g} measured" if metric in values else ""
            lines.append(("answers", text + measured))
    return "\n".join(f"  {name:<7}  {value}" for name, value in lines)


def quantity(metric: str, value: float) -> str:
    """A value of a metric for people, such as ``4.2 %``."""
    return percent(value) if metric.endswith("_fraction") else f"{value:.4g}"
