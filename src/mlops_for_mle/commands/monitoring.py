"""What a person is told of the last monitoring run."""

from datetime import datetime

from mlops_for_mle import monitoring_log
from mlops_for_mle.database import reachable
from mlops_for_mle.monitoring_run import MonitoringRun


def last_summary(url: str, contract: str) -> str:
    """Say in a few lines what was found last, looking back or not; nothing before the first run."""
    with reachable(url) as engine, engine.connect() as connection:
        runs = monitoring_log.history(connection, contract, limit=1)
    return summarise(runs[0]) if runs else ""


def summarise(run: MonitoringRun) -> str:
    """The lines for one run."""
    window = f"{run.prediction_count} predictions, {run.labelled_count} with a true label"
    if run.window_from is not None and run.window_to is not None:
        window += f", {_told(run.window_from)} to {_told(run.window_to)}"
    lines = [
        ("status", run.status),
        *(("", reason) for reason in run.reasons),
        ("release", run.release),
        ("window", window),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def _told(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
