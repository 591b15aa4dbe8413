"""Whether to retrain, on which rows, and what becomes of it: pure functions."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns
from mlops_for_mle.contract.model import as_utc
from mlops_for_mle.errors import NothingToDoError
from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun
from mlops_for_mle.pipelines.monitoring.counting import RunQuery
from mlops_for_mle.pipelines.monitoring.options import Action, RetrainingOptions
from mlops_for_mle.releases.manifest import Champion, Deployment

_LABELLED_ROWS = """
SELECT predictions.created_at, features, target, feedback.label
FROM predictions JOIN feedback USING (prediction_id)
WHERE predictions.contract = :contract AND superseded_at IS NULL
  AND predictions.created_at >= :since AND predictions.created_at <= now()
  AND jsonb_typeof(features) = 'object'
ORDER BY predictions.created_at DESC, predictions.prediction_id DESC LIMIT 50000
"""


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


class WindowFinding(NamedTuple):
    """The areas with an alarm in a window that was monitored and no retraining has answered yet."""

    run_id: int
    window_from: datetime
    alarms: list[str]


# The newest windows first, of predictions and of labels, as docs/decisions/0011-retraining.md says.
History = dict[str, list[WindowFinding]]


def decide_on_retraining(
    run: MonitoringRun, history: History, retraining: RetrainingOptions
) -> RetrainingDecision:
    """Say what is to be done about the deployed release, by what was found."""
    decision: Action = "none"
    reasons, evidence = [], []
    for area, action in retraining.actions:
        kind = "labelled windows" if area == "performance" else "windows"
        windows = history[kind][: retraining.windows]
        alarms = [window for window in windows if area in window.alarms]
        if not alarms:
            continue
        runs = ", ".join(str(window.run_id) for window in reversed(alarms))
        reasons.append(
            f"{area}: alarm in {len(alarms)} of the last {len(windows)} {kind} (runs {runs}); "
            f"{retraining.alarms} in {retraining.windows} call for {action}."
        )
        if len(alarms) >= retraining.alarms and action != "none":
            evidence += [window.window_from for window in alarms]
            decision = max(decision, action, key=get_args(Action).index)
    count = min(retraining.windows, len(history["windows"]))
    # Those that a retraining has answered count no more, whatever their state.
    seen = f"no alarm in the last {count} windows" if count else "no new window to decide by yet"
    return RetrainingDecision(
        contract=run.contract,
        monitoring_run_id=run.id,
        decision=decision,
        reasons=reasons or [f"{run.release}: {seen}."],
        evidence_from=min(evidence, default=None),
    )


def require_open(
    decision: RetrainingDecision | None, deployment: Deployment | None
) -> RetrainingDecision:
    """Give back the newest decision if it calls for a retraining now."""
    if decision is None:
        why = "nothing was monitored yet, run `kedro run --pipeline monitoring` first"
    elif decision.acted_at is not None:
        why = f"decision {decision.id} was acted on ({decision.outcome})"
    elif decision.decision != "retrain":
        reasons = " ".join(decision.reasons).rstrip(".")
        why = f"decision {decision.id} says {decision.decision}. {reasons}"
    elif deployment and deployment.run_id == decision.run_id:
        # Its run was ended before it could conclude the decision.
        why = f"decision {decision.id} has had {deployment.release} deployed"
    elif _is_superseded(decision, deployment):
        why = f"another release was put in service after decision {decision.id}"
    else:
        return decision
    raise NothingToDoError(f"Retraining is not called for: {why}. `kedro run` trains anyway.")


def labelled_rows(
    decision: RetrainingDecision, prediction_log: RunQuery, contract: Contract
) -> pd.DataFrame:
    """The newest labelled predictions since the first alarm, by any release, as table rows.

    Their time is when they were asked for. Rows that do not fit the contract any more are left out.
    """
    since = decision.evidence_from or "-infinity"
    parameters = {"contract": contract.name, "since": since}
    [newest_first] = prediction_log(parameters, _LABELLED_ROWS)
    rows, target = newest_first[::-1], contract.target
    columns = {name: [row.features.get(name) for row in rows] for name in contract.columns}
    columns[target.column] = [row.target for row in rows]
    if target.feature.is_text:
        # In the log it is the index of a class; the order or the names may have been others then.
        values = {target_class.label: target_class.value for target_class in target.classes}
        columns[target.column] = [
            values.get(row.label, target.values.get(row.target)) for row in rows
        ]
    fitting, faults = check_columns(pd.DataFrame(columns, dtype=object), contract.columns)
    times = np.array([as_utc(row.created_at) for row in rows], "datetime64[us]")
    fitting.insert(0, contract.timestamp, np.delete(times, list(faults)))
    return fitting


def choose_rows(
    decision: RetrainingDecision,
    labelled: pd.DataFrame,
    observations: pd.DataFrame,
    contract: Contract,
    retraining: RetrainingOptions,
    minimum_rows_per_class: int | None,
) -> pd.DataFrame:
    """What a retraining learns from: the labelled rows alone, where they are enough."""
    since, target = decision.evidence_from, contract.target
    source = "labelled predictions" + (f" since {since:%Y-%m-%d %H:%M:%S %Z}" if since else "")
    # The split needs one row to learn from and one to validate on.
    least = max(2, minimum_rows_per_class or 0)
    distinct = labelled[list(contract.columns)].drop_duplicates()
    by_class = distinct[target.column].value_counts()
    has_classes = all(by_class.get(value, 0) >= least for value in target.codes)
    # A feature that was added to the contract since then has values in the table only.
    names = list(contract.features)
    has_values = labelled[names].notna().any() | observations[names].isna().all()
    is_enough = has_classes and has_values.all()
    frames = [labelled]
    if len(labelled) < retraining.minimum_labelled or not is_enough:
        frames.insert(0, observations.drop(columns=contract.key, errors="ignore"))
        source = f"{observations.attrs['source']} and {source}"
    rows = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
    rows.attrs["source"] = source
    return rows


def admit_champion(decision: RetrainingDecision, champion: Champion | None) -> Champion | tuple[()]:
    """The champion, if this retraining has made it and nobody has deployed anything meanwhile.

    Nothing is an empty tuple, since Kedro hands on no None.
    """
    if champion is None or champion.manifest.run_id != decision.run_id:
        return ()
    return () if _is_superseded(decision, champion.deployment) else champion


def conclude_decision(
    decision: RetrainingDecision, champion: Champion | None, deployments: pd.DataFrame
) -> RetrainingDecision:
    """Say how the retraining ended that a decision has called for."""
    # The champion may be another one by now, by a person's hand, whatever the gates said.
    deployed = deployments[deployments["run_id"] == decision.run_id]
    outcome = "the candidate was rejected"
    if len(deployed):
        outcome = f"version {deployed['model_version'].iloc[0]} was promoted"
    elif champion and champion.manifest.run_id == decision.run_id:
        outcome = f"version {champion.manifest.version} was promoted"
        outcome += "; not deployed, since another release was put in service meanwhile"
    elif champion and _is_superseded(decision, champion.deployment):
        outcome = "nothing was deployed, since another release was put in service meanwhile"
    return replace(decision, outcome=outcome)


def _is_superseded(decision: RetrainingDecision, deployment: Deployment | None) -> bool:
    """Whether a release was put in service after the decision, which was made of another one."""
    return bool(deployment and decision.created_at and deployment.created_at > decision.created_at)
