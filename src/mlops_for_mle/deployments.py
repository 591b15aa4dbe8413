"""The audit trail of deployments: who serves what, since when and why. Rows are only appended."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from mlops_for_mle.database.tables import deployments

SERVING_EVENTS = ("deploy", "rollback")


class DeploymentRow(NamedTuple):
    """One row of the audit trail."""

    id: int
    contract: str
    event: str
    release: str
    model_version: int
    run_id: str
    reason: str
    actor: str
    created_at: datetime


def current(connection: Connection, contract: str) -> DeploymentRow | None:
    """The row that servers follow: the newest that deploys or rolls back; None before any."""
    return next(iter(history(connection, contract, SERVING_EVENTS, limit=1)), None)


def history(
    connection: Connection,
    contract: str,
    events: Sequence[str] = SERVING_EVENTS,
    limit: int | None = None,
) -> list[DeploymentRow]:
    """Rows of a contract, the newest first."""
    rows = connection.execute(
        select(*(deployments.c[name] for name in DeploymentRow._fields))
        .where(deployments.c.contract == contract, deployments.c.event.in_(events))
        .order_by(deployments.c.id.desc())
        .limit(limit)
    )
    return [DeploymentRow(*row) for row in rows]


def append(
    connection: Connection,
    *,
    contract: str,
    event: str,
    release: str,
    model_version: int,
    run_id: str,
    reason: str,
    actor: str,
) -> int:
    """Append a row and give its id; the caller commits."""
    statement = insert(deployments).values(
        contract=contract,
        event=event,
        release=release,
        model_version=model_version,
        run_id=run_id,
        reason=reason,
        actor=actor,
    )
    return int(connection.execute(statement.returning(deployments.c.id)).scalar_one())
