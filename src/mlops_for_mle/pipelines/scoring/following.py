"""Scores what arrives, rows or messages, with the release that is deployed.

A batch is scored and written, predictions and rejects, in one transaction, and acknowledged then.
What breaks in between is done again; since a row has one prediction, that doubles nothing.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import Event
from typing import Any, NamedTuple

import pandas as pd
import psycopg2
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.tables import prediction_table
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.tables import scoring_rejects
from mlops_for_mle.errors import UserError, explain
from mlops_for_mle.pipelines.scoring.batches import deployed, loaded
from mlops_for_mle.pipelines.scoring.nodes import Scorer, plain

Records = list[dict[str, Any]]

_POLL_SECONDS = 0.25
# What passes by itself or once somebody has done something.
_PASSING = (DBAPIError, psycopg2.Error, UserError, OSError)

_LOGGER = logging.getLogger(__name__)


class Arrived(NamedTuple):
    """A row or message that waits to be scored.

    Attributes:
        source: Where it comes from: a table's name, or a topic's and a partition's.
        source_id: Its number there: the row's key, or the message's offset.
        values: Its columns by name.
        timestamp: When it was observed, as text that Postgres reads.
        key: Its key in the table of observations, if it has any.
        fault: Why it cannot be read.
    """

    source: str
    source_id: int
    values: Any
    timestamp: str | None = None
    key: int | None = None
    fault: str | None = None


class Arrivals(ABC):
    """Where rows arrive."""

    @abstractmethod
    def take(self, connection: sa.Connection, features: Mapping[str, Feature]) -> list[Arrived]:
        """The rows that are next, without waiting for any.

        Args:
            connection: In the transaction that writes what becomes of them; when that fails, they
                are given again.
            features: What is needed of them.
        """

    def acknowledge(self, predictions: Records) -> None:  # noqa: B027  (not all need it)
        """Take note that what became of the rows that were taken last is written."""

    def is_at_end(self) -> bool:
        """Whether more is not to be expected, after nothing could be taken."""
        return True

    def close(self) -> None:  # noqa: B027
        """Leave."""


class Follower:
    """Scores what arrives, a batch a transaction.

    Attributes:
        scored: How many rows have got a prediction.
        rejected: How many have not.
    """

    def __init__(
        self, contract: Contract, store: str, arrivals: Arrivals, report_every: timedelta
    ) -> None:
        """Say whose rows, the release store, where they arrive, and how often progress is told."""
        self.scored = self.rejected = 0
        self._contract = contract
        self._store = store
        self._arrivals = arrivals
        self._report_every = report_every
        self._reported = (0, time.monotonic())
        self._release = ""
        response = contract.target.response_name
        facts = ("source", "source_id", "model_version", "release")
        self._insert = _upsert(
            sa.table(
                prediction_table(contract),
                *map(sa.column, (*facts, "row_key", "timestamp", response, "scored_at")),
            ),
            ("source", "source_id"),
        ).values(scored_at=sa.func.clock_timestamp())
        self._reject = _upsert(scoring_rejects, ("contract", "source", "source_id"))

    def run(self, stopping: Event, *, follow: bool) -> None:
        """Score until nothing is left or, when it follows, until it is to stop.

        Raises:
            Exception: It does not follow, and something is missing or away.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_PASSING),
            wait=wait_exponential(multiplier=0.2, max=15),
            sleep=sleep_using_event(stopping),
            stop=stop_when_event_set(stopping),
            before_sleep=_tell,
            retry_error_callback=lambda state: 0,
        )
        try:
            while not stopping.is_set():
                found = retrying(self._score_batch) if follow else self._score_batch()
                self._report()
                if not found:
                    if not follow and self._arrivals.is_at_end():
                        return
                    stopping.wait(_POLL_SECONDS)
        finally:
            self._arrivals.close()

    def _score_batch(self) -> int:
        with engine_for(database_url()).begin() as connection:
            release = deployed(connection, self._contract.name)
            scorer = loaded(self._store, self._contract.name, release)
            if release != self._release:
                _LOGGER.info("release=%s scores", release)
                self._release = release
            rows = self._arrivals.take(connection, scorer.manifest.contract.features)
            if not rows:
                return 0
            predictions, rejects = self._outcome(scorer, rows)
            if predictions:
                connection.execute(self._insert, predictions)
            if rejects:
                connection.execute(self._reject, rejects)
        self._arrivals.acknowledge(predictions)
        self.scored += len(predictions)
        self.rejected += len(rejects)
        if rejects:
            first = rejects[0]
            _LOGGER.warning(
                "%d rejected, see scoring_rejects; the first is %s, %d: %s",
                *(len(rejects), first["source"], first["source_id"], first["reason"]),
            )
        return len(rows)

    def _outcome(self, scorer: Scorer, rows: Sequence[Arrived]) -> tuple[Records, Records]:
        """The rows of the tables of predictions and of rejects."""
        contract, response = scorer.manifest.contract, self._contract.target.response_name
        facts = {"model_version": scorer.manifest.version, "release": scorer.manifest.release}
        read = [one for one in rows if one.fault is None]
        values = [[one.values.get(name) for name in contract.features] for one in read]
        frame = pd.DataFrame(values, columns=list(contract.features), dtype=object)
        positions, answers, rejected = scorer.score(frame)
        faults = [(one, one.fault) for one in rows if one.fault is not None]
        faults += [(read[position], reason) for position, reason in rejected.items()]

        def record(one: Arrived, /, **more: Any) -> dict[str, Any]:
            return {**facts, "source": one.source, "source_id": one.source_id, **more}

        answered = (read[position] for position in positions)
        predictions = [
            record(one, row_key=one.key, timestamp=one.timestamp, **{response: value})
            for one, value in zip(answered, scorer.values(answers), strict=True)
        ]
        name = self._contract.name
        rejects = [
            record(one, contract=name, reason=plain(reason), row_data=plain(one.values))
            for one, reason in faults
        ]
        return predictions, rejects

    def _report(self) -> None:
        done, (before, since) = self.scored + self.rejected, self._reported
        passed = time.monotonic() - since
        if passed < self._report_every.total_seconds():
            return
        self._reported = (done, time.monotonic())
        if done > before:
            rate = (done - before) / passed
            _LOGGER.info("scored=%d rejected=%d rate=%.0f/s", self.scored, self.rejected, rate)


def _upsert(table: sa.TableClause, key: Sequence[str]) -> Any:
    """Write rows; where one is there with this key, it is replaced."""
    statement = insert(table)
    others = [one.name for one in table.columns if one.name not in key]
    changes = {name: statement.excluded[name] for name in others}
    return statement.on_conflict_do_update(index_elements=key, set_=changes)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    pause = state.next_action.sleep if state.next_action is not None else 0.0
    if error is not None:
        _LOGGER.warning("%s; tried again in %.1f s", " ".join(explain(error).split()), pause)
