"""What is recorded of a look at the deployed release: one class for the rows of each table.

``database/tables.py`` says what the columns are; the database gives ``id`` and ``created_at``.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Status = Literal["insufficient", "healthy", "warning", "alarm"]
Area = Literal["data_quality", "drift", "performance", "estimate"]
Action = Literal["none", "investigate", "retrain"]
Severity = Literal["none", "warning", "alarm"]


@dataclass(frozen=True)
class Metric:
    """A row of ``monitoring_metrics``, and what it amounts to.

    Attributes:
        subject: A feature's name, a class, ``prediction`` or ``rows`` (all of the window).
        p_value: Of the test behind it; corrected for all tests of the run when it is judged.
        severity: What the value amounts to; the test's part in this is judged last.
        message: What to say then.
        segment: The part of the window that was measured, such as ``region=north``; else empty.
    """

    area: Area
    subject: str
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    severity: Severity = "none"
    message: str = ""
    segment: str = ""

    @property
    def is_alarm(self) -> bool:
        """Whether it alone makes the run an alarm."""
        return self.severity == "alarm"


@dataclass(frozen=True, kw_only=True)
class MonitoringRun:
    """A row of ``monitoring_runs``, one look at the deployed release, with its metrics."""

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
    reasons: list[str]
    id: int | None = None
    created_at: datetime | None = None
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetrainingDecision:
    """A row of ``retraining_decisions``: what is to be done about a release."""

    contract: str
    monitoring_run_id: int | None
    decision: Action
    reasons: list[str]
    evidence_from: datetime | None = None
    id: int | None = None
    created_at: datetime | None = None
    run_id: str | None = None
    acted_at: datetime | None = None
    outcome: str | None = None
