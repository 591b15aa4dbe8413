"""Pure functions of retraining: what monitoring found in, what to do and on which rows out."""

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.pipelines.retraining.options import RetrainingOptions
from mlops_for_mle.pipelines.training.options import DataCheckOptions
from mlops_for_mle.pipelines.training.split import scarce_classes
from mlops_for_mle.records import Window
from mlops_for_mle.records_retraining import (
    Action,
    MonitoringHistory,
    RetrainingDecision,
    WindowFinding,
)

_MOST_URGENT_FIRST: tuple[Action, ...] = ("retrain", "investigate", "none")


def decide(
    run: MonitoringRun, history: MonitoringHistory, retraining: RetrainingOptions
) -> RetrainingDecision:
    """Say what is to be done about the deployed release.

    An area counts when it was an alarm in enough of the newest windows, so that one bad window
    changes nothing. Live performance is a matter of labels, so its windows are those of labelled
    predictions: labels that are the newest for long count once.

    Args:
        run: The newest look at the release.
        history: What monitoring has found since the release was deployed or last retrained.
        retraining: How many alarms in how many windows, and what they call for.
    """
    decision: Action = "none"
    reasons: list[str] = []
    evidence: list[WindowFinding] = []
    for area, wanted in retraining.actions.by_area().items():
        is_labelled = area == "performance"
        found = history.labelled_findings if is_labelled else history.findings
        windows = found[: retraining.windows]
        alarms = [window for window in windows if area in window.alarms]
        if not alarms:
            continue
        is_enough = len(alarms) >= retraining.alarms
        action = wanted if is_enough else "none"
        reasons.append(
            f"{area}: alarm in {len(alarms)} of the last {len(windows)} "
            f"{'labelled windows' if is_labelled else 'windows'} (runs "
            f"{', '.join(str(one.run_id) for one in reversed(alarms))}); "
            f"{retraining.alarms} in {retraining.windows} call for {wanted}."
        )
        if action == "none":
            continue
        evidence += alarms
        if _MOST_URGENT_FIRST.index(action) < _MOST_URGENT_FIRST.index(decision):
            decision = action
    if not reasons:
        looked_at = len(history.findings[: retraining.windows])
        reasons.append(f"{history.release}: no alarm in the last {looked_at} windows.")
    return RetrainingDecision(
        contract=run.contract,
        monitoring_run_id=run.id or 0,
        decision=decision,
        reasons=tuple(reasons),
        evidence_from=min((one.window_from for one in evidence), default=None),
    )


def choose_rows(
    labelled: Window,
    observations: Window,
    contract: Contract,
    retraining: RetrainingOptions,
    data_checks: DataCheckOptions,
) -> Window:
    """The rows that a retraining learns from.

    Raises:
        UserError: There is neither a labelled prediction nor an observation, or a class has too
            few of both.
    """
    options = retraining.rows
    is_enough = len(labelled.rows) >= options.minimum_labelled and not scarce_classes(
        labelled.rows, contract, data_checks
    )
    if is_enough and options.include == "labelled":
        return labelled
    columns = list(contract.columns)
    parts = [part.loc[:, columns] for part in (observations.rows, labelled.rows) if len(part)]
    if not parts:
        raise UserError(
            f"Neither {labelled.source} nor {observations.source} has rows to learn from: ingest "
            "observations, or send labels to POST /feedback."
        )
    rows = pd.concat(parts, ignore_index=True)
    source = f"{observations.source} and {labelled.source}"
    scarce = scarce_classes(rows, contract, data_checks)
    if scarce:
        told = "; ".join(f"class {label} has {found}" for label, found in scarce.items())
        raise UserError(
            f"The retraining waits for labels: {source} have too few rows of a class ({told}). "
            "Send labels to POST /feedback, ingest observations, or lower "
            "data_checks.minimum_rows_per_class."
        )
    return Window(source, rows)
