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
        subject: A feature's name, a class, ``prediction``, ``rows`` (all predictions of the
            window) or ``table`` (the newest rows of the contract's table).
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
    """A row of ``monitoring_runs``: one look at the deployed release.

    Attributes:
        contract: Whose release.
        release: The release that answered the predictions.
        model_version: Its version in the registry.
        window_from: When the first prediction of the window was answered; None without any.
        window_to: When the last one was.
        prediction_count: How many predictions the window has.
        labelled_count: How many predictions with a true label were looked at.
        labelled_from: When the first of those was answered; None without any.
        labelled_to: When the last one was.
        status: ``insufficient`` when there were too few rows to say more.
        reasons: Sentences for people.
        id: Its number; None before it is recorded.
        created_at: When it was recorded; None before.
        metrics: The numbers, which have a table of their own.
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
        contract: Whose release.
        monitoring_run_id: The newest run that was looked at.
        decision: What is to be done.
        reasons: Sentences for people.
        evidence_from: When the first of the predictions was answered that speak for it.
        id: Its number; None before it is recorded.
        created_at: When it was recorded; None before.
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
    acted_at: datetime | None = None
    outcome: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it calls for a retraining that has not ended yet."""
        return self.decision == "retrain" and self.acted_at is None


def summarise(run: MonitoringRun) -> str:
    """What a person is told of a run, in a few lines."""
    window = f"{run.prediction_count} predictions, {run.labelled_count} with a true label"
    if run.window_from is not None and run.window_to is not None:
        begin, end = (one.astimezone() for one in (run.window_from, run.window_to))
        window += f", {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}"
    lines = [
        ("status", run.status),
        *(("", reason) for reason in run.reasons),
        ("release", run.release),
        ("window", window),
    ]
    return "\n".join(f"  {name:<7}  {value}" for name, value in lines)
