"""Pure functions of retraining: what monitoring found in, what to do and on which rows out."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import NotCalledForError
from mlops_for_mle.pipelines.monitoring.options import RetrainingOptions
from mlops_for_mle.pipelines.monitoring.record import (
    Action,
    Area,
    MonitoringRun,
    RetrainingDecision,
)
from mlops_for_mle.pipelines.monitoring.window import PredictionLog
from mlops_for_mle.releases.manifest import Release

_LEAST_URGENT_FIRST: tuple[Action, ...] = ("none", "investigate", "retrain")


class WindowFinding(NamedTuple):
    """What one monitoring run has found in its window: the areas with an alarm."""

    run_id: int
    window_from: datetime
    window_to: datetime
    alarms: frozenset[Area]


class History(NamedTuple):
    """What monitoring has found of the deployed release and no retraining has answered yet.

    Attributes:
        findings: Of windows that do not overlap, the newest first; without the runs that had too
            few rows to tell.
        labelled_findings: The same of the labelled predictions by which performance was judged.
            They are windows of their own: labels come late, and one set of them may be the newest
            in many windows of predictions.
    """

    findings: tuple[WindowFinding, ...]
    labelled_findings: tuple[WindowFinding, ...]


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from, with the contract's columns, and where they come from."""

    source: str
    rows: pd.DataFrame


class Verdict(NamedTuple):
    """What the gates have said of a version: whether it was promoted, and why."""

    version: int
    is_promoted: bool
    reasons: str


def decide_on_retraining(
    run: MonitoringRun, history: History, retraining: RetrainingOptions
) -> RetrainingDecision:
    """Say what is to be done about the deployed release.

    An area counts when it was an alarm in enough of the newest windows, so that one bad window
    changes nothing. Live performance is a matter of labels, so its windows are those of labelled
    predictions: labels that are the newest for long count once.
    """
    decision: Action = "none"
    reasons: list[str] = []
    evidence: list[datetime] = []
    for area, wanted in retraining.actions:
        found, kind = history.findings, "windows"
        if area == "performance":
            found, kind = history.labelled_findings, "labelled windows"
        windows = found[: retraining.windows]
        alarms = [window for window in windows if area in window.alarms]
        if not alarms:
            continue
        runs = ", ".join(str(one.run_id) for one in reversed(alarms))
        reasons.append(
            f"{area}: alarm in {len(alarms)} of the last {len(windows)} {kind} (runs {runs}); "
            f"{retraining.alarms} in {retraining.windows} call for {wanted}."
        )
        if len(alarms) >= retraining.alarms and wanted != "none":
            evidence += [one.window_from for one in alarms]
            decision = max(decision, wanted, key=_LEAST_URGENT_FIRST.index)
    if not reasons:
        count = len(history.findings[: retraining.windows])
        reasons.append(f"{run.release}: no alarm in the last {count} windows.")
    return RetrainingDecision(
        contract=run.contract,
        monitoring_run_id=run.id,
        decision=decision,
        reasons=tuple(reasons),
        evidence_from=min(evidence, default=None),
    )


def require_open(
    decision: RetrainingDecision | None, changed_at: datetime | None
) -> RetrainingDecision:
    """Give back a decision that calls for a retraining now.

    Args:
        decision: The newest one.
        changed_at: When a release was last put in service, or a retraining ended: what was
            decided before was decided of something else.

    Raises:
        NotCalledForError: It does not; says why.
    """
    anyway = "`kedro run` trains anyway."
    if decision is None:
        raise NotCalledForError(
            f"Nothing was monitored yet: run `kedro run --pipeline monitoring` first. {anyway}"
        )
    told = f"Retraining is not called for: decision {decision.id}"
    if decision.acted_at is not None:
        when = f"{decision.acted_at:%Y-%m-%d %H:%M:%S %Z}"
        raise NotCalledForError(f"{told} was acted on at {when} ({decision.outcome}). {anyway}")
    if decision.decision != "retrain":
        reasons = " ".join(decision.reasons)
        raise NotCalledForError(f"{told} says {decision.decision}. {reasons} {anyway}")
    if _is_after(changed_at, decision.created_at):
        raise NotCalledForError(
            f"{told} was made before another release was put in service or another retraining "
            f"ended, at {changed_at:%Y-%m-%d %H:%M:%S %Z}: monitor again. {anyway}"
        )
    return decision


def choose_rows(
    decision: RetrainingDecision,
    prediction_log: PredictionLog,
    observations: TrainingRows,
    contract: Contract,
    retraining: RetrainingOptions,
    minimum_rows_per_class: int | None,
) -> TrainingRows:
    """The rows that a retraining learns from: what was labelled since the first alarm, or all."""
    options, since, target = retraining.rows, decision.evidence_from, contract.target
    labelled = prediction_log.labelled_rows(contract, since, options.maximum_labelled)
    source = "labelled predictions" + (f" since {since:%Y-%m-%d %H:%M:%S %Z}" if since else "")
    # The split needs one row to learn from and one to validate on.
    least = max(2, minimum_rows_per_class or 0)
    by_class = labelled.drop_duplicates()[target.column].value_counts()
    has_classes = all(by_class.get(one, 0) >= least for one in target.class_values)
    is_enough = len(labelled) >= options.minimum_labelled and has_classes
    if is_enough and options.include == "labelled":
        return TrainingRows(source, labelled)
    both = [one for one in (observations.rows[list(contract.columns)], labelled) if len(one)]
    rows = pd.concat(both, ignore_index=True) if both else labelled
    return TrainingRows(f"{observations.source} and {source}", rows)


def admit_champion(
    decision: RetrainingDecision,
    verdict: Verdict,
    deployed_at: datetime | None,
    champion: Release | None,
) -> Release | tuple[()]:
    """The champion, if this retraining has made it and nobody has deployed anything meanwhile.

    A person may have rolled back from the champion, which a rejected candidate does not change.
    Nothing is an empty tuple, since Kedro hands on no None.
    """
    is_passed_by = _is_after(deployed_at, decision.created_at)
    return champion if champion and verdict.is_promoted and not is_passed_by else ()


def conclude_decision(
    decision: RetrainingDecision, verdict: Verdict, deployments: pd.DataFrame
) -> RetrainingDecision:
    """Say how the retraining ended that a decision has called for."""
    outcome = "promoted" if verdict.is_promoted else "rejected"
    told = f"version {verdict.version} {outcome}: {verdict.reasons}"
    own = deployments[
        (deployments["contract"] == decision.contract) & (deployments["event"] == "deploy")
    ]
    if verdict.is_promoted and verdict.version not in set(own["model_version"]):
        told += "; not deployed, since another release was put in service meanwhile"
    return replace(decision, outcome=told)


def _is_after(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one > other
