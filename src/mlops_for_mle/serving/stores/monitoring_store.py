"""What monitoring has recorded, for the routes and for Prometheus.

SQLAlchemy is imported with the first question, never before the first prediction.
"""

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.route_database import RouteDatabase

if TYPE_CHECKING:
    from mlops_for_mle.monitoring_run import MonitoringRun

# Between two looks of a scraper at the database.
_CACHE_SECONDS = 5.0


class RecordedRuns(NamedTuple):
    """The newest run with its numbers, and some runs without theirs, the newest first."""

    newest: "MonitoringRun | None"
    runs: "list[MonitoringRun]"


class MonitoringStore:
    """Reads the tables ``monitoring_runs`` and ``monitoring_metrics``."""

    def __init__(self, database: RouteDatabase) -> None:
        """Use a database."""
        self._database = database

    def read(self, contract: str, limit: int, before: int | None = None) -> RecordedRuns:
        """Read runs.

        Args:
            contract: Whose runs.
            limit: How many at most.
            before: Only runs with a smaller id; the newest run is given in any case.

        Raises:
            ProblemError: 503, the database does not answer or lacks the tables.
        """
        from mlops_for_mle import monitoring_log

        with self._database.begin() as connection:
            return RecordedRuns(
                monitoring_log.newest(connection, contract),
                monitoring_log.history(connection, contract, limit, before),
            )

    def newest(self, contract: str) -> "MonitoringRun | None":
        """Read the newest run.

        Raises:
            ProblemError: 503, the database does not answer or lacks the tables.
        """
        from mlops_for_mle import monitoring_log

        with self._database.begin() as connection:
            return monitoring_log.newest(connection, contract)


class NewestRun:
    """The newest run as scrapers see it: from the database, and so the same in every process.

    While the database is away it stays what it was; the time of the run tells how old it is.
    """

    def __init__(self, services: Services, store: MonitoringStore) -> None:
        """Nothing is read before the first call."""
        self._services = services
        self._store = store
        self._lock = threading.Lock()
        self._known: MonitoringRun | None = None
        self._read_at = -_CACHE_SECONDS

    def __call__(self) -> "MonitoringRun | None":
        """The newest run of the served contract; None before any."""
        with self._lock:
            now = time.monotonic()
            contract = self._services.settings.model or self._services.slot.status.contract
            is_away = self._services.slot.status.database_error is not None
            if contract is not None and not is_away and now - self._read_at >= _CACHE_SECONDS:
                self._read_at = now
                try:
                    self._known = self._store.newest(contract)
                except ProblemError:
                    # Logged by the database; a scrape never fails for it.
                    return self._known
            return self._known
