"""What monitoring has recorded, for the routes and for Prometheus.

SQLAlchemy is imported with the first question, never before the first prediction.
"""

import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.route_database import RouteDatabase

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Between two looks of a scraper at the database.
_CACHE_SECONDS = 5.0


Status = Literal["insufficient", "healthy", "warning", "alarm"]
Area = Literal["data_quality", "drift", "performance", "calibration"]


class MonitoringMetric(NamedTuple):
    """One number of a run.

    Attributes:
        area: What it is about.
        subject: A feature's name, a class, ``prediction``, ``rows`` (all predictions of the
            window) or ``table`` (the contract's table of observations).
        metric: What was measured, such as ``population_stability_index``.
        value: None where there was nothing to measure.
        lower: The lower end of the confidence interval.
        upper: Its upper end.
        threshold: What the value was compared with.
        p_value: Of the test behind an alarm, corrected for all tests of the run.
        is_alarm: Whether the value alone makes the run an alarm.
    """

    area: Area
    subject: str
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    is_alarm: bool = False


class MonitoringRun(NamedTuple):
    """One look at the deployed release.

    Attributes:
        id: Its number; None before it is recorded.
        contract: Whose release.
        release: The release that answered the predictions.
        model_version: Its version in the registry.
        window_from: When the first prediction of the window was answered; None without any.
        window_to: When the last one was.
        prediction_count: How many predictions the window has.
        labelled_count: How many predictions with a true label were looked at.
        status: ``insufficient`` when there were too few rows to say more.
        reasons: Sentences for people.
        created_at: When it was recorded; None before.
        labelled_from: When the first of those labelled predictions was answered; None without any.
        labelled_to: When the last one was.
        metrics: The numbers; empty where they were not asked for.
    """

    id: int | None
    contract: str
    release: str
    model_version: int
    window_from: datetime | None
    window_to: datetime | None
    prediction_count: int
    labelled_count: int
    status: Status
    reasons: tuple[str, ...]
    created_at: datetime | None = None
    labelled_from: datetime | None = None
    labelled_to: datetime | None = None
    metrics: tuple[MonitoringMetric, ...] = ()


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
        with self._database.begin() as connection:
            return RecordedRuns(
                _newest(connection, contract),
                _history(connection, contract, limit, before),
            )

    def newest(self, contract: str) -> "MonitoringRun | None":
        """Read the newest run.

        Raises:
            ProblemError: 503, the database does not answer or lacks the tables.
        """
        with self._database.begin() as connection:
            return _newest(connection, contract)


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


def _newest(connection: "Connection", contract: str) -> MonitoringRun | None:
    """The newest run with its metrics; one that looks back is none."""
    from sqlalchemy import exists, select

    from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs

    runs, earlier = monitoring_runs.c, monitoring_runs.alias("earlier").c
    looks_back = exists().where(
        earlier.contract == runs.contract,
        earlier.release == runs.release,
        earlier.id < runs.id,
        earlier.window_to > runs.window_to,
    )
    found = _read(connection, 1, runs.contract == contract, ~looks_back)
    if not found:
        return None
    table = monitoring_metrics.c
    rows = connection.execute(
        select(*(table[name] for name in MonitoringMetric._fields))
        .where(table.run_id == found[0].id)
        .order_by(table.area, table.subject, table.metric)
    )
    return found[0]._replace(metrics=tuple(MonitoringMetric(*row) for row in rows))


def _history(
    connection: "Connection", contract: str, limit: int, before: int | None
) -> list[MonitoringRun]:
    from mlops_for_mle.database.tables import monitoring_runs

    table = monitoring_runs.c
    return _read(connection, limit, table.contract == contract, table.id < (before or 2**63 - 1))


def _read(connection: "Connection", limit: int, *conditions: Any) -> list[MonitoringRun]:
    from sqlalchemy import select

    from mlops_for_mle.database.tables import monitoring_runs

    columns = [monitoring_runs.c[name] for name in MonitoringRun._fields if name != "metrics"]
    query = select(*columns).where(*conditions).order_by(monitoring_runs.c.id.desc()).limit(limit)
    rows = connection.execute(query)
    return [MonitoringRun(**{**row._mapping, "reasons": tuple(row.reasons)}) for row in rows]
