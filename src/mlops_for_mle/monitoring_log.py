"""The record of monitoring runs. Rows are only appended."""

from typing import Any

from sqlalchemy import Connection, Select, exists, insert, select

from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs
from mlops_for_mle.monitoring_run import MonitoringMetric, MonitoringRun

_GENERATED = ("id", "created_at")
_COLUMNS = [name for name in MonitoringRun._fields if name != "metrics"]
_SELECTED = [monitoring_runs.c[name] for name in _COLUMNS]


def append(connection: Connection, run: MonitoringRun) -> MonitoringRun:
    """Append a run with its metrics; the caller commits.

    Returns:
        The run with its id and time.
    """
    values: dict[str, Any] = {
        name: getattr(run, name) for name in _COLUMNS if name not in _GENERATED
    }
    values["reasons"] = list(run.reasons)
    table = monitoring_runs.c
    made = connection.execute(
        insert(monitoring_runs).values(values).returning(table.id, table.created_at)
    ).one()
    if run.metrics:
        connection.execute(
            insert(monitoring_metrics),
            [{"run_id": made.id, **metric._asdict()} for metric in run.metrics],
        )
    return run._replace(id=made.id, created_at=made.created_at)


def newest(connection: Connection, contract: str) -> MonitoringRun | None:
    """The newest run of a contract with its metrics; None before any.

    A run that looks back, at a window that ended before one that was seen earlier, is none.
    """
    runs, earlier = monitoring_runs.c, monitoring_runs.alias("earlier").c
    looks_back = exists().where(
        earlier.contract == runs.contract,
        earlier.release == runs.release,
        earlier.id < runs.id,
        earlier.window_to > runs.window_to,
    )
    found = _read(connection, select(*_SELECTED).where(runs.contract == contract, ~looks_back), 1)
    if not found:
        return None
    run = found[0]
    table = monitoring_metrics.c
    rows = connection.execute(
        select(*(table[name] for name in MonitoringMetric._fields))
        .where(table.run_id == run.id)
        .order_by(table.area, table.subject, table.metric)
    )
    return run._replace(metrics=tuple(MonitoringMetric(*row) for row in rows))


def history(
    connection: Connection, contract: str, limit: int | None = None, before: int | None = None
) -> list[MonitoringRun]:
    """Runs of a contract without their metrics, the newest first.

    Args:
        connection: To the project's database.
        contract: Whose runs.
        limit: How many at most; None gives all.
        before: Only runs with a smaller id.
    """
    table = monitoring_runs.c
    statement = select(*_SELECTED).where(table.contract == contract)
    if before is not None:
        statement = statement.where(table.id < before)
    return _read(connection, statement, limit)


def _read(connection: Connection, statement: Select[Any], limit: int | None) -> list[MonitoringRun]:
    rows = connection.execute(statement.order_by(monitoring_runs.c.id.desc()).limit(limit))
    return [MonitoringRun(**{**row._mapping, "reasons": tuple(row.reasons)}) for row in rows]
