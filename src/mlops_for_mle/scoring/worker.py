"""One worker: takes rows from the queue and writes predictions, in one transaction a batch."""

import logging
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import psycopg2
from psycopg2 import extensions
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.database import DatabaseUnavailableError, engine_for
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.scoring.plan import ScoringPlan
from mlops_for_mle.scoring.prediction_store import PredictionStore
from mlops_for_mle.scoring.row_queue import SMALLEST_ID, RowQueue
from mlops_for_mle.scoring.scorer import ReleaseScorer
from mlops_for_mle.stop_signal import StopSignal

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 15.0
_LOOK_BACK = 2_000

_LOGGER = logging.getLogger(__name__)


@dataclass
class Totals:
    """What a worker has done so far.

    Attributes:
        scored: Rows that have a prediction now.
        rejected: Rows that do not fit the contract.
        gone: Rows that were deleted before their turn came.
    """

    scored: int = 0
    rejected: int = 0
    gone: int = 0


class ScoringWorker:
    """Scores the rows of a contract's table, one batch a transaction.

    The entries of the queue, the predictions and the rejects change together or not at all, so
    each row is scored once, whenever the process or the server dies.
    """

    def __init__(
        self, plan: ScoringPlan, find_database: Callable[[], str], stopping: StopSignal
    ) -> None:
        """Prepare; the tables and the trigger must be there.

        Args:
            plan: What to do.
            find_database: Gives the database's URL; asked again after a failure.
            stopping: Ends the work after the batch in hand.
        """
        self.totals = Totals()
        self._plan = plan
        self._find_database = find_database
        self._stopping = stopping
        self._queue = RowQueue(plan.contract)
        # A key that is used again belongs to another row, whose prediction is the one to keep.
        self._store = PredictionStore(plan.contract, replace=True)
        self._scorer: ReleaseScorer | None = None
        self._refresh_at = 0.0
        self._look_at_all_at = 0.0
        self._newest_id = 0
        self._from_id = SMALLEST_ID
        self._pause = _FIRST_PAUSE_SECONDS
        self._progress = _Progress(plan.report_seconds, self.totals)
        self._said: str | None = None

    def run(self) -> Totals:
        """Score until there is nothing left, or until told to stop.

        While it follows, it outlives failures of the database and waits for a release.

        Raises:
            UserError: It does not follow, and something is missing.
        """
        while not self._stopping.is_set():
            try:
                self._score_all(self._find_database())
            except (UserError, DBAPIError, psycopg2.Error) as error:
                if not self._plan.follow:
                    raise _explained(error) from error
                self._say_once(f"scoring is interrupted: {_sentence(error)}")
                if self._stopping.wait(self._pause):
                    break
                self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                break
        return self.totals

    def _score_all(self, url: str) -> None:
        scorer = self._scorer_for(url)
        with _listening(url, self._queue) as connection:
            while not self._stopping.is_set():
                taken = self._score_batch(connection, scorer) if self._is_ready(scorer) else 0
                if self._progress.is_due():
                    self._keep_house(url, connection)
                if taken == 0 and self._plan.follow:
                    self._wait(connection)
                elif taken == 0:
                    if self._from_id == SMALLEST_ID:
                        return
                    self._look_at_all_at = 0.0

    def _scorer_for(self, url: str) -> ReleaseScorer:
        if self._scorer is None:
            self._scorer = ReleaseScorer(self._plan.contract, self._plan.release_store, url)
        self._scorer.database_url = url
        return self._scorer

    def _is_ready(self, scorer: ReleaseScorer) -> bool:
        """Follow the newest deployment; whether there is a release to score with.

        Raises:
            PrerequisiteError: There is none and nobody waits for one.
        """
        if time.monotonic() >= self._refresh_at:
            scorer.refresh()
            self._refresh_at = time.monotonic() + self._plan.poll_seconds
        if scorer.release is not None:
            return True
        obstacle = scorer.obstacle or "No release is loaded."
        if not self._plan.follow:
            raise PrerequisiteError(obstacle)
        self._say_once(f"waiting for a release: {obstacle}")
        return False

    def _score_batch(self, connection: extensions.connection, scorer: ReleaseScorer) -> int:
        """Take, score and write one batch; gives how many entries of the queue it took."""
        manifest = scorer.manifest
        features = manifest.contract.feature_names if manifest is not None else ()
        source = self._plan.contract.table
        connection.notifies.clear()
        with connection.cursor() as cursor:
            self._choose_start()
            taken = self._queue.take(cursor, features, self._plan.batch_size, self._from_id)
            if taken.count == 0:
                connection.rollback()
                return 0
            scored = scorer.score(taken.rows)
            self._store.write_predictions(cursor, source, taken.ids, taken.times, scored)
            self._store.write_rejects(cursor, source, taken.ids, taken.rows, scored)
        connection.commit()
        self._newest_id = max(taken.ids, default=self._newest_id)
        self._pause, self._said = _FIRST_PAUSE_SECONDS, None
        self.totals.scored += len(scored)
        self.totals.rejected += len(scored.rejected)
        self.totals.gone += taken.count - len(taken.ids)
        if scored.rejected:
            first = scored.rejected[0]
            _LOGGER.warning(
                "rejected=%d, kept in table scoring_rejects; the first is %s=%d: %s",
                len(scored.rejected),
                self._plan.contract.key,
                taken.ids[first.position],
                first.reason,
            )
        return taken.count

    def _choose_start(self) -> None:
        """Begin near the newest rows, and now and then at the start of the queue.

        Transactions that commit late, and workers that die, leave entries behind.
        """
        now = time.monotonic()
        self._from_id = self._newest_id - _LOOK_BACK
        if now >= self._look_at_all_at:
            self._look_at_all_at = now + self._plan.poll_seconds
            self._from_id = SMALLEST_ID

    def _keep_house(self, url: str, connection: extensions.connection) -> None:
        with connection.cursor() as cursor:
            waiting = self._queue.waiting(cursor)
            is_installed = self._queue.is_installed(cursor)
        connection.rollback()
        self._progress.report(waiting)
        if not is_installed and self._plan.follow:
            _LOGGER.warning(
                "table %s had lost the trigger that queues its new rows; rows of the meantime "
                "are scored by `kedro score --from-start`",
                self._plan.contract.table,
            )
            self._queue.install(url)

    def _wait(self, connection: extensions.connection) -> None:
        """Sleep until rows were added, somebody asks to stop, or it is time for a look."""
        connection.poll()
        if not connection.notifies:
            sources = [connection.fileno(), self._stopping.fileno()]
            select.select(sources, [], [], self._plan.poll_seconds)
            connection.poll()

    def _say_once(self, message: str) -> None:
        if message != self._said:
            self._said = message
            _LOGGER.warning("%s", message)


class _Progress:
    """A line of progress now and then, where there is any progress."""

    def __init__(self, seconds: float, totals: Totals) -> None:
        self._seconds = seconds
        self._totals = totals
        self._reported = 0
        self._since = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._since >= self._seconds

    def report(self, waiting: int) -> None:
        now = time.monotonic()
        done = self._totals.scored - self._reported
        if done or waiting:
            _LOGGER.info(
                "scored=%d rate=%.0f/s rejected=%d waiting=%d",
                self._totals.scored,
                done / (now - self._since),
                self._totals.rejected,
                waiting,
            )
        self._reported, self._since = self._totals.scored, now


@contextmanager
def _listening(url: str, queue: RowQueue) -> Iterator[extensions.connection]:
    """A connection of its own that is told when rows were added."""
    pooled = engine_for(url).raw_connection()
    connection = cast(extensions.connection, pooled.dbapi_connection)
    try:
        with connection.cursor() as cursor:
            queue.configure(cursor)
        connection.commit()
        yield connection
    finally:
        # Closes it, which rolls back too, and works on a connection that is broken.
        pooled.invalidate()
        pooled.close()


def _explained(error: Exception) -> Exception:
    is_lost = isinstance(error, DBAPIError | psycopg2.OperationalError | psycopg2.InterfaceError)
    return DatabaseUnavailableError(_sentence(error)) if is_lost else error


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    original = error.orig if isinstance(error, DBAPIError) else error
    # Only a server that is there gives a code; some of the codes say that it is leaving.
    is_there = getattr(original, "pgcode", None) and not isinstance(
        original, psycopg2.OperationalError
    )
    what = "refuses it" if is_there else "does not answer"
    return f"the database {what} ({' '.join(str(original).split())[:160]})"
