"""The audit trail for people: what was deployed, how good it was, and the way back.

SQLAlchemy is imported when somebody asks, so that it never delays the first answer.
"""

from typing import TYPE_CHECKING

from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.release import Manifest, ReleaseStore
from mlops_for_mle.serving.releases.deployment_log import DeploymentLog

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mlops_for_mle.deployments import DeploymentRow

_REMEMBERED_MANIFESTS = 100


class RollbackRefusedError(UserError):
    """What was asked for does not fit what is in service."""


class DeploymentHistory(DeploymentLog):
    """Reads the ``deployments`` table and appends rollbacks to it."""

    def __init__(self, store: ReleaseStore) -> None:
        """Join the audit trail to the store that has the releases."""
        super().__init__()
        self._store = store
        self._manifests: dict[tuple[str, str], Manifest] = {}

    def rows(self, contract: str, limit: int, before: int | None = None) -> "list[DeploymentRow]":
        """Rows of all events, the newest first.

        Args:
            contract: Whose rows.
            limit: How many at most.
            before: Only rows with a smaller id.

        Raises:
            UserError: The database is not available.
        """
        from sqlalchemy import select

        from mlops_for_mle.database.tables import deployments
        from mlops_for_mle.deployments import DeploymentRow

        table = deployments.c
        statement = select(*(table[name] for name in DeploymentRow._fields)).where(
            table.contract == contract
        )
        if before is not None:
            statement = statement.where(table.id < before)
        with self._connection() as connection:
            if connection is None:
                return []
            found = connection.execute(statement.order_by(table.id.desc()).limit(limit))
            return [DeploymentRow(*row) for row in found]

    def current_row(self, contract: str) -> "DeploymentRow | None":
        """The deployment that servers follow; None before any.

        Raises:
            UserError: The database is not available.
        """
        from mlops_for_mle.deployments import current

        with self._connection() as connection:
            return current(connection, contract) if connection is not None else None

    def manifest(self, contract: str, release: str) -> Manifest:
        """The facts of a release; complete and unaltered when they were first read.

        Raises:
            ReleaseError: It is missing or altered, or the store does not answer.
        """
        key = (contract, release)
        known = self._manifests.get(key)
        if known is None:
            try:
                known = self._store.fetch(contract, release).manifest
            except ReleaseError:
                raise
            except Exception as error:
                where = self._store.location(contract, release)
                raise ReleaseError(f"{where} cannot be read: {error}") from error
            if len(self._manifests) >= _REMEMBERED_MANIFESTS:
                self._manifests.clear()
            self._manifests[key] = known
        return known

    def roll_back(
        self,
        contract: str,
        *,
        release: str | None,
        current_deployment: int | None,
        reason: str,
        actor: str,
    ) -> "DeploymentRow":
        """Append a row that names an earlier release; servers follow it within their poll time.

        Args:
            contract: Whose deployment.
            release: The one to go back to; None takes the one that was served before.
            current_deployment: The row that the caller takes for the current one; None does not
                check.
            reason: Why, for the audit trail.
            actor: Who, for the audit trail.

        Raises:
            RollbackRefusedError: Nothing fits: never deployed, in service already, or another
                deployment has come in between.
            ReleaseError: The release is no longer whole in the store.
            UserError: The database is not available.
        """
        from mlops_for_mle.deployments import append, current, history

        with self._connection() as connection:
            if connection is None:
                raise RollbackRefusedError(f"Contract {contract} was never deployed")
            # Read again under the lock that every deployment takes.
            _lock(connection, contract)
            rows = history(connection, contract)
            chosen = _choose(rows, contract, release, current_deployment)
            self._manifests.pop((contract, chosen), None)
            manifest = self.manifest(contract, chosen)
            append(
                connection,
                contract=contract,
                event="rollback",
                release=manifest.release,
                model_version=manifest.model.version,
                run_id=manifest.model.run_id,
                reason=reason,
                actor=actor,
            )
            row = current(connection, contract)
            connection.commit()
        if row is None:
            raise RuntimeError("a row that was appended is there")
        return row


def _choose(
    rows: "list[DeploymentRow]", contract: str, wanted: str | None, current_deployment: int | None
) -> str:
    if not rows:
        raise RollbackRefusedError(f"Contract {contract} was never deployed")
    newest = rows[0]
    if current_deployment is not None and current_deployment != newest.id:
        raise RollbackRefusedError(
            f"Deployment {newest.id} ({newest.release}) has come in between: look at it first"
        )
    earlier = list(dict.fromkeys(row.release for row in rows if row.release != newest.release))
    if not earlier:
        raise RollbackRefusedError(f"{newest.release} is the only release that was ever deployed")
    if wanted == newest.release:
        raise RollbackRefusedError(f"{wanted} is in service already")
    if wanted is not None and wanted not in earlier:
        raise RollbackRefusedError(
            f"Release {wanted!r} was never deployed; allowed: {', '.join(earlier[:10])}"
        )
    return wanted or earlier[0]


def _lock(connection: "Connection", contract: str) -> None:
    from sqlalchemy import text

    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"deployments/{contract}"}
    )
