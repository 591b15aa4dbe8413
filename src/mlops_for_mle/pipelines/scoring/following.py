"""Scores what arrives with the release that is deployed: new rows of a table, or messages.

A batch is scored and written, predictions and rejects, in one transaction, and acknowledged then.
What breaks in between is done again; since a row has one prediction, that doubles nothing.

New rows of the contract's table are queued by a trigger in ``scoring_queue``, see decision 12.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Any, NamedTuple

import pandas as pd
import psycopg2
from sqlalchemy import Connection, CursorResult, column, table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.columns import as_json, plain
from mlops_for_mle.database.engine import database_url, engine_for, execute_raw, literal, quoted
from mlops_for_mle.database.tables import prediction_table
from mlops_for_mle.errors import UserError, error_message
from mlops_for_mle.pipelines.scoring.scorer import Scorer, load_scorer
from mlops_for_mle.releases.deployments import require_deployment

Record = dict[str, Any]

_POLL_SECONDS, _MAX_PAUSE = 0.25, 4.0
# What passes by itself, or once somebody has mended it.
_TRANSIENT = (DBAPIError, psycopg2.Error, UserError, OSError)

# In these, a name with _text at its end is a literal, any other is quoted.
# Of a table in partitions, what they are told apart by has to be in the index, too.
_IS_UNIQUE = """
SELECT count(*) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
                              JOIN pg_class ON pg_class.oid = indrelid
WHERE indrelid = to_regclass(quote_ident({table_text})) AND attname = {key_text}
  AND indisunique AND indisvalid AND indpred IS NULL AND (indnkeyatts = 1 OR relkind = 'p')
"""
_HAS_TRIGGER = """
SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(quote_ident({table_text}))
                                  AND tgname = {trigger_text} AND tgenabled <> 'D'
  AND strpos(pg_get_triggerdef(oid), format('(%L, %L)', {contract_text}, {key_text})) > 0
"""
# Writers to the table queue behind whoever waits for its lock.
_CREATE_TRIGGER = """
SET LOCAL lock_timeout TO '10s';
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT
EXECUTE FUNCTION enqueue_for_scoring({contract_text}, {key_text})
"""
_DROP_TRIGGER = """
SET LOCAL lock_timeout TO '10s';
DROP TRIGGER IF EXISTS {trigger} ON {table};
DELETE FROM scoring_queue WHERE contract = {contract_text}
"""
# A row is told from a former one of its key, before a TRUNCATE for example, by its time.
_ENQUEUE = """
SET LOCAL timezone TO 'UTC';
DELETE FROM scoring_rejects WHERE contract = {contract_text} AND source = {table_text};
INSERT INTO scoring_queue (contract, source_id)
SELECT {contract_text}, observed.{key} FROM {table} AS observed
WHERE NOT EXISTS (SELECT FROM {predictions} AS scored
                  WHERE scored.source = {table_text} AND scored.source_id = observed.{key}
                    AND scored.timestamp IS NOT DISTINCT FROM observed.{timestamp}::timestamp)
ON CONFLICT DO NOTHING
"""
_DEQUEUE = """
SET LOCAL timezone TO 'UTC';
WITH next AS MATERIALIZED (
    SELECT contract, source_id FROM scoring_queue WHERE contract = {contract_text}
    ORDER BY source_id LIMIT {size} FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM scoring_queue USING next
    WHERE scoring_queue.contract = next.contract AND scoring_queue.source_id = next.source_id
    RETURNING scoring_queue.source_id
)
SELECT taken.source_id, observed.{key} IS NOT NULL, observed.{timestamp}::timestamp::text, {values}
FROM taken LEFT JOIN {table} AS observed ON observed.{key} = taken.source_id
"""
_LOGGER = logging.getLogger(__name__)


class IncomingRow(NamedTuple):
    """A row or message that waits to be scored, or why it cannot be read.

    ``origin`` is ``source``, ``source_id``, ``row_key`` and ``timestamp`` of its prediction.
    """

    origin: Record
    values: Any
    fault: str | None = None


class Follower:
    """Scores the rows that wait, with their present values, a batch a transaction."""

    def __init__(self, contract: Contract, store: str, size: int) -> None:
        self.scored = self.rejected = 0
        self._contract = contract
        self._store = store
        self._size = size

    def _take(
        self, connection: Connection, features: Mapping[str, Feature]
    ) -> list[IncomingRow] | None:
        """The next rows, without waiting for any; None once all have been taken.

        They are given again when the transaction that writes their outcome fails.
        """
        # Postgres's times reach beyond the years that Python knows.
        expressions = ", ".join(
            f"observed.{quoted(name)}{'::text' if feature.is_time else ''}"
            for name, feature in features.items()
        )
        parts = {"size": self._size, "values": expressions}
        entries = _execute(connection, _DEQUEUE, self._contract, **parts).all()
        rows, source = [], self._contract.table
        for key, exists, time, *values in map(tuple, entries):
            origin = {"source": source, "source_id": key, "row_key": key, "timestamp": time}
            if exists:
                rows.append(IncomingRow(origin, dict(zip(features, values, strict=True))))
        return rows if entries else None

    def _acknowledge(self, predictions: list[Record]) -> None:
        """Take note that the outcome of the rows taken last is written."""

    def close(self) -> None:
        """Leave the work to others."""

    def run(self, stopping: Event, *, follow: bool) -> None:
        """Score until nothing is left or, with ``follow``, until it is to stop."""
        pause = _POLL_SECONDS
        while not stopping.is_set():
            try:
                rows, pause = self._score_batch(), _POLL_SECONDS
            except _TRANSIENT as error:
                if not follow:
                    raise
                rows, pause = [], min(2 * pause, _MAX_PAUSE)
                message = " ".join(error_message(error).split())
                _LOGGER.warning("%s; tried again in %g s", message, pause)
            if rows is None and not follow:
                return
            if not rows:
                stopping.wait(pause)

    def _score_batch(self) -> list[IncomingRow] | None:
        with engine_for(database_url()).begin() as connection:
            release = require_deployment(connection, self._contract.name).release
            scorer = load_scorer(self._store, self._contract.name, release)
            rows = self._take(connection, scorer.manifest.contract.features)
            if not rows:
                return rows
            predictions, rejects = self._outcome(scorer, rows)
            # What is read again, by another release, may have another outcome.
            of_contract = f"contract = {literal(self._contract.name)}"
            for name, records, condition in (
                (prediction_table(self._contract), predictions, "true"),
                ("scoring_rejects", rejects, of_contract),
            ):
                _delete(connection, name, rows, condition)
                if records:
                    statement = insert(table(name, *map(column, records[0])))
                    # Another worker may have written them just now: partitions change hands.
                    connection.execute(statement.on_conflict_do_nothing(), records)
        self._acknowledge(predictions)
        self.scored += len(predictions)
        self.rejected += len(rejects)
        if rejects:
            _LOGGER.warning("%d rejected, see scoring_rejects", len(rejects))
        return rows

    def _outcome(
        self, scorer: Scorer, rows: Sequence[IncomingRow]
    ) -> tuple[list[Record], list[Record]]:
        """The rows of the tables of predictions and of rejects."""
        manifest, response = scorer.manifest, self._contract.target.response_name
        facts = {"model_version": manifest.version, "release": manifest.release}
        readable = [row for row in rows if row.fault is None]
        features = list(manifest.contract.features)
        frame = pd.DataFrame([row.values for row in readable], columns=features, dtype=object)
        positions, scored, faults = scorer.score(frame)
        predictions = [
            readable[position].origin | facts | {response: value, "scored_at": datetime.now(UTC)}
            for position, value in zip(positions, scorer.values(scored), strict=True)
        ]
        rejected = [row for row in rows if row.fault is not None]
        rejected += [readable[position]._replace(fault=fault) for position, fault in faults.items()]
        rejects = [
            {
                "contract": self._contract.name,
                "source": row.origin["source"],
                "source_id": row.origin["source_id"],
                "reason": plain(row.fault),
                "row_data": as_json(row.values),
            }
            | facts
            for row in rejected
        ]
        return predictions, rejects


def install(contract: Contract) -> bool:
    """Have new rows of the contract's table queued from now on; False if they were already."""
    with engine_for(database_url()).begin() as connection:
        if not _execute(connection, _IS_UNIQUE, contract).scalar_one():
            # Of two rows with one key, one would have no prediction.
            raise UserError(
                f"Table {contract.table} has no unique index of {contract.key} alone, its key: "
                f"CREATE UNIQUE INDEX ON {quoted(contract.table)} ({quoted(contract.key)})."
            )
        is_new = not _execute(connection, _HAS_TRIGGER, contract).scalar_one()
        if is_new:
            _execute(connection, _CREATE_TRIGGER, contract)
        return is_new


def uninstall(contract: Contract) -> int:
    """Have new rows queued no longer, and forget those that wait; gives how many did."""
    with engine_for(database_url()).begin() as connection:
        return _execute(connection, _DROP_TRIGGER, contract).rowcount


def enqueue_unscored(contract: Contract) -> int:
    """Queue every row without a prediction, rejected ones too; gives how many were added."""
    with engine_for(database_url()).begin() as connection:
        return _execute(connection, _ENQUEUE, contract).rowcount


def _execute(
    connection: Connection, statement: str, contract: Contract, **parts: Any
) -> CursorResult[Any]:
    names = {
        "contract": contract.name,
        "table": contract.table,
        "key": contract.key,
        "timestamp": contract.timestamp,
        "predictions": prediction_table(contract),
        "trigger": f"scoring_{contract.name}",
    }
    fields = {name: quoted(value) for name, value in names.items()}
    fields |= {f"{name}_text": literal(value) for name, value in names.items()}
    return execute_raw(connection, statement.format(**fields, **parts))


def _delete(connection: Connection, table: str, rows: list[IncomingRow], condition: str) -> None:
    """Delete the rows of a table that have the sources and numbers of these."""
    ids_by_source: dict[str, list[int]] = {}
    for row in rows:
        ids_by_source.setdefault(row.origin["source"], []).append(row.origin["source_id"])
    statement = text(
        f"DELETE FROM {table} WHERE source = :source AND source_id = ANY(:ids) AND {condition}"  # noqa: S608
    )
    for source, ids in ids_by_source.items():
        connection.execute(statement, {"source": source, "ids": ids})
