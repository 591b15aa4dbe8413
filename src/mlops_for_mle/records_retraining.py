"""What passes between the decision on retraining, the database and the retraining itself."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from mlops_for_mle.monitoring_run import Area

Action = Literal["none", "investigate", "retrain"]

# More windows than these are never looked at.
MOST_WINDOWS = 100


class WindowFinding(NamedTuple):
    """What one monitoring run has found in its window.

    Attributes:
        run_id: The run's number.
        window_from: When the first of the predictions was answered that were looked at.
        window_to: When the last one was.
        alarms: The areas in which something was an alarm.
    """

    run_id: int
    window_from: datetime
    window_to: datetime
    alarms: frozenset[Area]


@dataclass(frozen=True)
class MonitoringHistory:
    """What monitoring knows of the deployed release, and no retraining has answered yet.

    Attributes:
        contract: Whose release.
        release: The one that is deployed.
        findings: Of the newest windows that do not overlap, the newest first and no more than
            ``MOST_WINDOWS``; without the runs that had too few rows to tell.
        labelled_findings: The same of the labelled predictions by which performance was judged.
            They are windows of their own: labels come late, and one set of them may be the newest
            in many windows of predictions.
    """

    contract: str
    release: str
    findings: tuple[WindowFinding, ...]
    labelled_findings: tuple[WindowFinding, ...]


class RetrainingDecision(NamedTuple):
    """What is to be done about a release.

    Attributes:
        contract: Whose release.
        monitoring_run_id: The newest run that was looked at.
        decision: What is to be done.
        reasons: Sentences for people.
        evidence_from: When the first of the predictions was answered that speak for it.
        id: Its number; None before it is recorded.
        acted_at: When a retraining ended that it called for; None before.
        outcome: How that ended.
        created_at: When it was recorded; None before.
    """

    contract: str
    monitoring_run_id: int
    decision: Action
    reasons: tuple[str, ...]
    evidence_from: datetime | None = None
    id: int | None = None
    acted_at: datetime | None = None
    outcome: str | None = None
    created_at: datetime | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it calls for a retraining that has not ended yet."""
        return self.decision == "retrain" and self.acted_at is None
