"""Scores what arrives, rows or messages, with the release that is deployed.

A batch is scored and written, predictions and rejects, in one transaction, and acknowledged then.
What breaks in between is done again; since a row has one prediction, that doubles nothing.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Any, NamedTuple

import pandas as pd
import psycopg2
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import as_json, plain
from mlops_for_mle.contract.sql import prediction_table
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.errors import UserError, explain
from mlops_for_mle.pipelines.scoring.scorer import Scorer, loaded
from mlops_for_mle.releases.deployments import deployed

Record = dict[str, Any]

_POLL_SECONDS, _LONGEST_PAUSE = 0.25, 4.0
# What passes by itself or once somebody has done something.
_PASSING = (DBAPIError, psycopg2.Error, UserError, OSError)

_LOGGER = logging.getLogger(__name__)


class Arrived(NamedTuple):
    """A row or message that waits to be scored.

    ``place`` has what the table of predictions tells of it: ``source``, ``source_id``, ``row_key``
    and ``timestamp``; ``fault`` says why it cannot be read.
    """

    place: Record
    values: Any
    fault: str | None = None


class Follower(ABC):
    """Scores what arrives, a batch a transaction; counts what was ``scored`` and ``rejected``."""

    def __init__(self, contract: Contract, store: str, size: int) -> None:
        """Say whose rows, where releases lie, and how many rows are at most one batch."""
        self.scored = self.rejected = 0
        self._contract = contract
        self._store = store
        self._size = size

    @abstractmethod
    def _take(
        self, connection: sa.Connection, features: Mapping[str, Feature]
    ) -> list[Arrived] | None:
        """The rows that are next, with some features at least, without waiting for any.

        None says that all have been taken. When the transaction fails, which writes what becomes
        of them, they are given again.
        """

    def _acknowledge(self, predictions: list[Record]) -> None:  # noqa: B027  (not all need it)
        """Take note that what became of the rows that were taken last is written."""

    def run(self, stopping: Event, *, follow: bool) -> None:
        """Score until nothing is left or, when it follows, until it is to stop.

        Raises:
            Exception: It does not follow, and something is missing or away.
        """
        pause = _POLL_SECONDS
        while not stopping.is_set():
            try:
                found, pause = self._score_batch(), _POLL_SECONDS
            except _PASSING as error:
                if not follow:
                    raise
                found, pause = [], min(2 * pause, _LONGEST_PAUSE)
                _LOGGER.warning("%s; tried again in %g s", " ".join(explain(error).split()), pause)
            if found is None and not follow:
                return
            if not found:
                stopping.wait(pause)

    def _score_batch(self) -> list[Arrived] | None:
        with engine_for(database_url()).begin() as connection:
            release = deployed(connection, self._contract.name).release
            scorer = loaded(self._store, self._contract.name, release)
            rows = self._take(connection, scorer.manifest.contract.features)
            if not rows:
                return rows
            predictions, rejects = self._outcome(scorer, rows)
            place = ["source", "source_id"]
            _write(connection, prediction_table(self._contract), place, predictions)
            _write(connection, "scoring_rejects", ["contract", *place], rejects)
        self._acknowledge(predictions)
        self.scored += len(predictions)
        self.rejected += len(rejects)
        if rejects:
            _LOGGER.warning(
                "%d rejected, see scoring_rejects; the first is %s, %d: %s",
                *(len(rejects), *(rejects[0][name] for name in (*place, "reason"))),
            )
        return rows

    def _outcome(
        self, scorer: Scorer, rows: Sequence[Arrived]
    ) -> tuple[list[Record], list[Record]]:
        """The rows of the tables of predictions and of rejects."""
        manifest, response = scorer.manifest, self._contract.target.response_name
        facts = {"model_version": manifest.version, "release": manifest.release}
        read = [{} if one.fault else one.values for one in rows]
        features = list(manifest.contract.features)
        positions, answers, faults = scorer.score(
            pd.DataFrame(read, columns=features, dtype=object)
        )
        faults |= {number: one.fault for number, one in enumerate(rows) if one.fault}
        predictions = [
            rows[position].place | facts | {response: value, "scored_at": datetime.now(UTC)}
            for position, value in zip(positions, scorer.values(answers), strict=True)
            if position not in faults
        ]
        rejects = [
            {
                "contract": self._contract.name,
                "source": rows[position].place["source"],
                "source_id": rows[position].place["source_id"],
                "reason": plain(reason),
                "row_data": as_json(rows[position].values),
            }
            | facts
            for position, reason in faults.items()
        ]
        return predictions, rejects


def _write(
    connection: sa.Connection, table: str, key: Sequence[str], records: list[Record]
) -> None:
    """Write rows; one that is there with the same key is replaced."""
    if records:
        statement = insert(sa.table(table, *map(sa.column, records[0])))
        given = dict(statement.excluded.items())
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=given), records)
