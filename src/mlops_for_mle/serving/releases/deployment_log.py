"""Reads the audit trail of deployments and records failures in it.

SQLAlchemy is imported when the database is first asked, so that it never delays the first answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_for_mle.serving.releases.served_release import FollowedDeployment

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FAILURE_LOCK = 7_210_003


class DeploymentLog:
    """The ``deployments`` table of the project's database."""

    def __init__(self) -> None:
        """Nothing is connected before the first question."""
        self._url: str | None = None

    def contracts(self) -> list[str]:
        """The contracts that were deployed, by name."""
        with self._connection() as connection:
            if connection is None:
                return []
            from sqlalchemy import select

            from mlops_for_mle.database.tables import deployments

            statement = select(deployments.c.contract).distinct()
            return sorted(connection.scalars(statement))

    def current(self, contract: str) -> FollowedDeployment | None:
        """The deployment to serve; None before the first."""
        with self._connection() as connection:
            if connection is None:
                return None
            from mlops_for_mle import deployments

            row = deployments.current(connection, contract)
        return FollowedDeployment.model_validate(row._asdict()) if row is not None else None

    def earlier(self, than: FollowedDeployment, limit: int) -> list[FollowedDeployment]:
        """Earlier deployments of other releases, the newest first, each release once."""
        with self._connection() as connection:
            if connection is None:
                return []
            from mlops_for_mle import deployments

            rows = deployments.history(connection, than.contract, limit=limit)
        newest: dict[str, FollowedDeployment] = {}
        for row in rows:
            if row.id < than.id and row.release != than.release and row.release not in newest:
                newest[row.release] = FollowedDeployment.model_validate(row._asdict())
        return list(newest.values())

    def record_failure(self, deployment: FollowedDeployment, reason: str) -> bool:
        """Append that a deployment could not be loaded, once for each deployment.

        Returns:
            Whether this call appended it; other processes that serve the same may have.
        """
        with self._connection() as connection:
            if connection is None:
                return False
            from sqlalchemy import func, select

            from mlops_for_mle import deployments
            from mlops_for_mle.database import tables

            table = tables.deployments
            prefix = f"deployment {deployment.id}: "
            connection.execute(select(func.pg_advisory_xact_lock(_FAILURE_LOCK)))
            recorded = connection.scalar(
                select(table.c.id).where(
                    table.c.contract == deployment.contract,
                    table.c.event == "load_failed",
                    table.c.reason.startswith(prefix),
                )
            )
            if recorded is not None:
                return False
            deployments.append(
                connection,
                contract=deployment.contract,
                event="load_failed",
                release=deployment.release,
                model_version=deployment.model_version,
                run_id=deployment.run_id,
                reason=prefix + reason,
                actor="serving",
            )
            connection.commit()
        return True

    @contextmanager
    def _connection(self) -> "Iterator[Connection | None]":
        """Connect; gives None where the table has not been made yet.

        Raises:
            UserError: The database is not available.
        """
        from sqlalchemy import inspect

        from mlops_for_mle.database import DatabaseUnavailableError, database_url, reachable
        from mlops_for_mle.database.tables import deployments

        if self._url is None:
            self._url = database_url()
            with reachable(self._url) as engine, engine.connect() as connection:
                if not inspect(connection).has_table(deployments.name):
                    self._url = None
                    yield None
                    return
        try:
            with reachable(self._url) as engine, engine.connect() as connection:
                yield connection
        except DatabaseUnavailableError:
            # The embedded server may come back at another port.
            self._url = None
            raise
