"""The audit trail of deployments: who serves what, since when and why. Rows are only appended."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select

from mlops_for_mle.database.engine import lock
from mlops_for_mle.database.tables import deployments
from mlops_for_mle.errors import UserError
from mlops_for_mle.releases.manifest import Deployment, Manifest
from mlops_for_mle.releases.store import ReleaseStore

_IN_BETWEEN = "Another deployment has come in between: {} is served now. Look again."


def current(connection: Connection, contract: str) -> Deployment | None:
    """The row that servers follow, which is the newest; None before any."""
    return next(iter(history(connection, contract, limit=1)), None)


def require_deployment(connection: Connection, contract: str) -> Deployment:
    """The row that servers follow; a ``UserError`` before any."""
    deployment = current(connection, contract)
    if deployment is None:
        raise UserError(f"Nothing of {contract} is deployed yet: run `kedro run` first.")
    return deployment


def history(connection: Connection, contract: str, limit: int | None = None) -> list[Deployment]:
    """Rows of a contract, the newest first."""
    query = select(deployments).where(deployments.c.contract == contract)
    query = query.order_by(deployments.c.id.desc()).limit(limit)
    return [Deployment(*row) for row in connection.execute(query)]


def deploy(
    connection: Connection,
    manifest: Manifest,
    *,
    reason: str,
    actor: str,
    newest: int | None = None,
) -> Deployment | None:
    """Have a release served, and commit; gives None where it is served already.

    ``newest`` is the id of the newest row when the release was chosen: where somebody has rolled
    back or deployed a later version since then, it is a ``UserError``.
    """
    lock(connection, f"deployments of {manifest.contract.name}")
    deployment = current(connection, manifest.contract.name)
    if deployment is not None and deployment.release == manifest.release:
        return None
    if deployment is not None and newest is not None and deployment.id > newest:
        is_later = deployment.event == "rollback" or deployment.model_version > manifest.version
        if is_later:
            raise UserError(_IN_BETWEEN.format(deployment.release))
    model = {"model_version": manifest.version, "run_id": manifest.run_id}
    names = {"contract": manifest.contract.name, "release": manifest.release}
    return _append(connection, **names, **model, event="deploy", reason=reason, actor=actor)


def roll_back(
    connection: Connection,
    store: ReleaseStore,
    contract: str,
    *,
    reason: str,
    actor: str,
    release: str | None = None,
    expected: int | None = None,
) -> Deployment:
    """Have an earlier release served again, and commit.

    Without its name that is ``previous_release``, so that twice goes back twice. ``expected`` is
    the id of the row that the caller takes for the current one: if there is a newer one by now, or
    no such release, it is a ``UserError``; if the release is no longer whole, a ``ReleaseError``.
    """
    deployment, rows = require_deployment(connection, contract), history(connection, contract)
    if expected not in (None, deployment.id):
        raise UserError(_IN_BETWEEN.format(deployment.release))
    earlier = {row.release: row for row in rows if row.release != deployment.release}
    again = earlier.get(release or previous_release(rows) or "")
    if again is None:
        allowed = f"expected one of {', '.join(earlier)}" if earlier else "no other was deployed"
        wanted = release or "an earlier release"
        raise UserError(f"Cannot roll back from {deployment.release} to {wanted}: {allowed}.")
    # No transaction stays open during the download.
    connection.rollback()
    store.fetch(contract, again.release)
    lock(connection, f"deployments of {contract}")
    # The release may have been pruned meanwhile, its manifest first.
    store.manifest(contract, again.release)
    now = current(connection, contract) or deployment
    if now.id != deployment.id:
        raise UserError(_IN_BETWEEN.format(now.release))
    row = {**asdict(again), "event": "rollback", "reason": reason, "actor": actor}
    return _append(connection, **row)


def previous_release(rows: list[Deployment]) -> str | None:
    """What was served before the newest row's release was first put in service.

    ``rows`` are all of a contract, the newest first.
    """
    releases = [row.release for row in reversed(rows)]
    first = releases.index(rows[0].release) if rows else 0
    return releases[first - 1] if first else None


def _append(connection: Connection, **row: Any) -> Deployment:
    """Insert a row and commit; its id and its time are the database's."""
    values = {name: value for name, value in row.items() if name not in ("id", "created_at")}
    appended = connection.execute(insert(deployments).values(values).returning(deployments)).one()
    connection.commit()
    return Deployment(*appended)
