"""What one look at the deployed release has found, without any input or output."""

from datetime import datetime
from typing import Literal, NamedTuple

Status = Literal["insufficient", "healthy", "warning", "alarm"]
Area = Literal["data_quality", "drift", "performance", "calibration"]


class MonitoringMetric(NamedTuple):
    """One number of a run.

    Attributes:
        area: What it is about.
        subject: A feature's name, a class, ``prediction``, ``rows`` (all predictions of the
            window) or ``table`` (the contract's table of observations).
        metric: What was measured, such as ``population_stability_index``.
        value: None where there was nothing to measure.
        lower: The lower end of the confidence interval.
        upper: Its upper end.
        threshold: What the value was compared with.
        p_value: Of the test behind an alarm, corrected for all tests of the run.
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


class MonitoringRun(NamedTuple):
    """One look at the deployed release.

    Attributes:
        id: Its number; None before it is recorded.
        contract: Whose release.
        release: The release that answered the predictions.
        model_version: Its version in the registry.
        window_from: When the first prediction of the window was answered; None without any.
        window_to: When the last one was.
        prediction_count: How many predictions the window has.
        labelled_count: How many predictions with a true label were looked at.
        status: ``insufficient`` when there were too few rows to say more.
        reasons: Sentences for people.
        created_at: When it was recorded; None before.
        labelled_from: When the first of those labelled predictions was answered; None without any.
        labelled_to: When the last one was.
        metrics: The numbers; empty where they were not asked for.
    """

    id: int | None
    contract: str
    release: str
    model_version: int
    window_from: datetime | None
    window_to: datetime | None
    prediction_count: int
    labelled_count: int
    status: Status
    reasons: tuple[str, ...]
    created_at: datetime | None = None
    labelled_from: datetime | None = None
    labelled_to: datetime | None = None
    metrics: tuple[MonitoringMetric, ...] = ()
