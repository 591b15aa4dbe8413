"""Scores what arrives, rows or messages, with the release that is deployed.

A batch is scored and written, predictions and rejects, in one transaction, and acknowledged then.
What breaks in between is done again; since a row has one prediction, that doubles nothing.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

    ``source`` is a table's name, or a topic's and a partition's; ``source_id`` its number there,
    the row's key or the message's offset; ``fault`` is why it cannot be read.
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
        """The rows that are next, with some features, without waiting for any.

        When the transaction fails, which writes what becomes of them, they are given again.
        """

    def acknowledge(self, predictions: Records) -> None:  # noqa: B027  (not all need it)
        """Take note that what became of the rows that were taken last is written."""

    def is_at_end(self) -> bool:
        """Whether more is not to be expected, after nothing could be taken."""
        return True

    def close(self) -> None:  # noqa: B027
        """Leave."""


class Follower:
    """Scores what arrives, a batch a transaction; counts what was ``scored`` and ``rejected``."""

    def __init__(self, contract: Contract, store: str, arrivals: Arrivals) -> None:
        """Say whose rows, the release store, and where rows arrive."""
        self.scored = self.rejected = 0
        self._contract = contract
        self._store = store
        self._arrivals = arrivals
        self._release = ""
        facts = ("source", "source_id", "model_version", "release", "row_key", "timestamp")
        names = (*facts, contract.target.response_name, "scored_at")
        predictions = sa.table(prediction_table(contract), *map(sa.column, names))
        self._insert = _upsert(predictions, ("source", "source_id")).values(
            scored_at=sa.func.clock_timestamp()
        )
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
        features = list(scorer.manifest.contract.features)
        response = self._contract.target.response_name
        facts = {"model_version": scorer.manifest.version, "release": scorer.manifest.release}
        read = [one for one in rows if one.fault is None]
        values = [[one.values.get(name) for name in features] for one in read]
        frame = pd.DataFrame(values, columns=features, dtype=object)
        positions, answers, rejected = scorer.score(frame)
        faults = [(one, one.fault) for one in rows if one.fault is not None]
        faults += [(read[position], reason) for position, reason in rejected.items()]
        predictions, rejects = [], []
        for position, value in zip(positions, scorer.values(answers), strict=True):
            one = read[position]
            found = {"row_key": one.key, "timestamp": one.timestamp, response: value}
            predictions.append({"source": one.source, "source_id": one.source_id} | facts | found)
        for one, reason in faults:
            told = {"contract": self._contract.name, "reason": plain(reason)}
            told["row_data"] = plain(one.values)
            rejects.append({"source": one.source, "source_id": one.source_id} | facts | told)
        return predictions, rejects


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
