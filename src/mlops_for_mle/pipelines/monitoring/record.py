"""What is recorded of a look at the deployed release: one class for the rows of each table."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Status = Literal["insufficient", "healthy", "warning", "alarm"]
Area = Literal["data_quality", "drift", "performance", "calibration"]
Action = Literal["none", "investigate", "retrain"]


@dataclass(frozen=True)
class Metric:
    """A row of ``monitoring_metrics``.

    Attributes:
        area: What it is about.
        subject: A feature's name, a class, ``prediction`` or ``rows`` (all of the window).
        metric: What was measured, such as ``population_stability_index``.
        value: None where there was nothing to measure.
        lower: The lower end of the confidence interval.
        upper: Its upper end.
        threshold: What the value was compared with.
        p_value: Of the test behind it, corrected for all tests of the run.
        is_alarm: Whether the value alone makes the run an alarm.
    """

    area: Area
    subject: str
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    is_alarm: bool = False


@dataclass(frozen=True, kw_only=True)
class MonitoringRun:
    """A row of ``monitoring_runs``, one look at the deployed release, with its metrics.

    Times are those at which predictions were answered, of the window and of the labelled
    predictions that were looked at; None where there was none. What the database gives, the id and
    the time of recording, is None before.
    """

    contract: str
    release: str
    model_version: int
    window_from: datetime | None
    window_to: datetime | None
    prediction_count: int
    labelled_count: int
    labelled_from: datetime | None
    labelled_to: datetime | None
    status: Status
    reasons: tuple[str, ...]
    id: int | None = None
    created_at: datetime | None = None
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetrainingDecision:
    """A row of ``retraining_decisions``: what is to be done about a release.

    Attributes:
        monitoring_run_id: The newest run that was looked at.
        evidence_from: When the first of the predictions was answered that speak for it.
        run_id: The MLflow run of the retraining that has taken it up last.
        acted_at: When a retraining ended that it called for; None before.
        outcome: How that ended.
    """

    contract: str
    monitoring_run_id: int | None
    decision: Action
    reasons: tuple[str, ...]
    evidence_from: datetime | None = None
    id: int | None = None
    created_at: datetime | None = None
    run_id: str | None = None
    acted_at: datetime | None = None
    outcome: str | None = None


def summarise(run: MonitoringRun) -> str:
    """What a person is told of a run, in a few lines."""
    window = f"{run.prediction_count} predictions, {run.labelled_count} with a true label"
    if run.window_from is not None and run.window_to is not None:
        begin, end = (one.astimezone() for one in (run.window_from, run.window_to))
        window += f", {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}"
    told = [("", reason) for reason in run.reasons]
    lines = [("status", run.status), *told, ("release", run.release), ("window", window)]
    return "\n".join(f"  {name:<7}  {value}" for name, value in lines)
