"""The record of decisions on retraining. Rows are appended, and told once how they ended."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs, retraining_decisions
from mlops_for_mle.records_retraining import (
    MOST_WINDOWS,
    MonitoringHistory,
    RetrainingDecision,
    WindowFinding,
)

_GIVEN = ("contract", "monitoring_run_id", "decision", "reasons", "evidence_from")
_RUNS, _METRICS = monitoring_runs.c, monitoring_metrics.c

Moment = ColumnElement[datetime]


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
    # Where a run has noted no time for its labels, none were later than its window.
    judged_to = case((_RUNS.labelled_count > 0, func.coalesce(_RUNS.labelled_to, _RUNS.window_to)))
    run_id, window_to, labelled_to = connection.execute(
        select(func.max(_RUNS.id), func.max(_RUNS.window_to), func.max(judged_to))
        .join(retraining_decisions, decisions.monitoring_run_id == _RUNS.id)
        .where(decisions.contract == contract, decisions.acted_at.is_not(None))
    ).one()
    newer = [_RUNS.contract == contract, _RUNS.release == release, _RUNS.id > (run_id or 0)]
    is_judged = exists().where(_METRICS.run_id == _RUNS.id, _METRICS.area == "performance")
    windows = _separate(
        connection,
        _RUNS.window_from,
        _RUNS.window_to,
        [*newer, _after(_RUNS.window_from, window_to), _RUNS.status != "insufficient"],
    )
    labelled = _separate(
        connection,
        _RUNS.labelled_from,
        _RUNS.labelled_to,
        [*newer, _after(_RUNS.labelled_from, labelled_to), is_judged],
    )
    return MonitoringHistory(contract, release, windows, labelled)


def _after(begin: Moment, answered: datetime | None) -> ColumnElement[bool]:
    """Whether a window holds nothing that the last retraining has answered."""
    return begin.is_not(None) if answered is None else begin > answered


def _separate(
    connection: Connection, begin: Moment, end: Moment, candidates: Sequence[ColumnElement[bool]]
) -> tuple[WindowFinding, ...]:
    """The newest windows that do not overlap, the newest first.

    A window that shares predictions with a newer one would repeat its alarm. Postgres chooses them,
    since many thousands of runs may look at one window while there is little traffic.
    """
    # Who looks back makes a new run of an old window, so the number of a run is no order.
    newest = (
        select(_RUNS.id, begin.label("begin"), end.label("end"))
        .where(*candidates)
        .order_by(end.desc(), _RUNS.id.desc())
        .limit(1)
    )
    first = newest.subquery("first")
    chosen = select(first, literal(1).label("number")).cte("chosen", recursive=True)
    earlier = newest.where(end < chosen.c.begin).lateral("earlier")
    chosen = chosen.union_all(
        select(earlier, chosen.c.number + 1)
        .select_from(chosen.join(earlier, true()))
        .where(chosen.c.number < MOST_WINDOWS)
    )
    alarms = select(_METRICS.area.distinct()).where(
        _METRICS.run_id == chosen.c.id, _METRICS.is_alarm
    )
    rows = connection.execute(
        select(
            chosen.c.id, chosen.c.begin, chosen.c.end, func.array(alarms.scalar_subquery())
        ).order_by(chosen.c.number)
    )
    return tuple(
        WindowFinding(run_id, since, until, frozenset(areas))
        for run_id, since, until, areas in rows
    )
