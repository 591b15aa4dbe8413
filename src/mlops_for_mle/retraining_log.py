"""The record of decisions on retraining. Rows are appended, and told once how they ended."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, literal, select, true, update

from mlops_for_mle.records_retraining import (
    MOST_WINDOWS,
    MonitoringHistory,
    RetrainingDecision,
    WindowFinding,
)
from mlops_for_mle.tables import monitoring_metrics, monitoring_runs, retraining_decisions

_GIVEN = ("contract", "monitoring_run_id", "decision", "reasons", "evidence_from")
_RUNS = monitoring_runs.c


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
    decisions = retraining_decisions.c
    answered = connection.execute(
        select(func.max(_RUNS.id).label("run_id"), func.max(_RUNS.window_to).label("window_to"))
        .join(retraining_decisions, decisions.monitoring_run_id == _RUNS.id)
        .where(decisions.contract == contract, decisions.acted_at.is_not(None))
    ).one()
    candidates = [_RUNS.contract == contract, _RUNS.release == release]
    candidates += [_RUNS.status != "insufficient", _RUNS.window_from.is_not(None)]
    if answered.run_id is not None:
        candidates.append(_RUNS.id > answered.run_id)
    if answered.window_to is not None:
        # What the last retraining has answered, in part or whole, is no new evidence.
        candidates.append(_RUNS.window_from > answered.window_to)
    return MonitoringHistory(contract, release, _separate(connection, candidates))


def _separate(
    connection: Connection, candidates: Sequence[ColumnElement[bool]]
) -> tuple[WindowFinding, ...]:
    """The newest windows that do not overlap, the newest first.

    A window that shares predictions with a newer one would repeat its alarm. Postgres chooses them,
    since many thousands of runs may look at one window while there is little traffic.
    """
    # Who looks back makes a new run of an old window, so the number of a run is no order.
    newest = (
        select(_RUNS.id, _RUNS.window_from, _RUNS.window_to)
        .where(*candidates)
        .order_by(_RUNS.window_to.desc(), _RUNS.id.desc())
        .limit(1)
    )
    first = newest.subquery("first")
    chosen = select(first, literal(1).label("number")).cte("chosen", recursive=True)
    earlier = newest.where(_RUNS.window_to < chosen.c.window_from).lateral("earlier")
    chosen = chosen.union_all(
        select(earlier, chosen.c.number + 1)
        .select_from(chosen.join(earlier, true()))
        .where(chosen.c.number < MOST_WINDOWS)
    )
    metrics = monitoring_metrics.c
    alarms = select(metrics.area.distinct()).where(metrics.run_id == chosen.c.id, metrics.is_alarm)
    rows = connection.execute(
        select(chosen, func.array(alarms.scalar_subquery()).label("alarms")).order_by(
            chosen.c.number
        )
    )
    return tuple(
        WindowFinding(row.id, row.window_from, row.window_to, frozenset(row.alarms)) for row in rows
    )
