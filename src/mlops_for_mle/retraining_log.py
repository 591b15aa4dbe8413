"""The record of decisions on retraining. Rows are appended, and told once how they ended."""

from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from mlops_for_mle.records_retraining import (
    MonitoringHistory,
    RetrainingDecision,
    WindowFinding,
)
from mlops_for_mle.tables import monitoring_metrics, monitoring_runs, retraining_decisions

_GIVEN = ("contract", "monitoring_run_id", "decision", "reasons", "evidence_from")
_LONGEST_HISTORY = 1_000


def append(connection: Connection, decision: RetrainingDecision) -> int:
    """Append a decision and give its id; the caller commits."""
    values: dict[str, Any] = {name: getattr(decision, name) for name in _GIVEN}
    values["reasons"] = list(decision.reasons)
    statement = insert(retraining_decisions).values(values)
    return int(connection.execute(statement.returning(retraining_decisions.c.id)).scalar_one())


def newest(connection: Connection, contract: str) -> RetrainingDecision | None:
    """The newest decision of a contract; None before any."""
    table = retraining_decisions.c
    row = connection.execute(
        select(*(table[name] for name in RetrainingDecision._fields))
        .where(table.contract == contract)
        .order_by(table.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return RetrainingDecision(**{**row._mapping, "reasons": tuple(row.reasons)})


def conclude(connection: Connection, decision_id: int, outcome: str) -> None:
    """Note how the retraining ended that a decision called for; the caller commits."""
    connection.execute(
        update(retraining_decisions)
        .where(retraining_decisions.c.id == decision_id)
        .values(acted_at=func.now(), outcome=outcome)
    )


def unanswered(connection: Connection, contract: str, release: str) -> MonitoringHistory:
    """What monitoring has found of a release since a retraining was last acted on."""
    runs_seen = monitoring_runs.alias("seen")
    runs, metrics, decisions = (
        monitoring_runs.c,
        monitoring_metrics.c,
        retraining_decisions.c,
    )
    answered = (
        select(func.coalesce(func.max(decisions.monitoring_run_id), 0))
        .where(decisions.contract == contract, decisions.acted_at.is_not(None))
        .scalar_subquery()
    )
    # A window that the last retraining has answered, in part or whole, is no new evidence.
    seen = runs_seen.c
    answered_until = (
        select(func.coalesce(func.max(seen.window_to), text("'-infinity'::timestamptz")))
        .where(seen.id == answered)
        .scalar_subquery()
    )
    alarms = func.array_remove(func.array_agg(metrics.area.distinct()), None)
    rows = connection.execute(
        select(runs.id, runs.window_from, runs.window_to, alarms.label("alarms"))
        .outerjoin(monitoring_metrics, (metrics.run_id == runs.id) & metrics.is_alarm)
        .where(
            runs.contract == contract,
            runs.release == release,
            runs.status != "insufficient",
            runs.window_from.is_not(None),
            runs.id > answered,
            runs.window_from > answered_until,
        )
        .group_by(runs.id)
        .order_by(runs.id.desc())
        .limit(_LONGEST_HISTORY)
    )
    findings = tuple(
        WindowFinding(row.id, row.window_from, row.window_to, frozenset(row.alarms)) for row in rows
    )
    return MonitoringHistory(contract, release, findings)
