"""Scores the rows of a contract's table as they arrive.

A trigger writes the keys of new rows to ``scoring_queue``. Whoever scores rows locks their entries,
passing over those that others have locked, writes the predictions and deletes the entries, all in
one transaction. So each row is scored once, by however many processes, whichever dies when.
"""

import logging
from functools import partial
from threading import Event

from sqlalchemy import Connection, text

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.tables import prediction_table, quoted
from mlops_for_mle.database.engine import database_url, engine_for, execute_plainly, lock
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.following import (
    Arrived,
    Deployed,
    Sink,
    Totals,
    escaped,
    patiently,
)

POLL_SECONDS = 0.25
_SMALLEST_KEY = -(2**63)

# Whoever writes to the table waits behind one who waits for its lock.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout TO '10s'"
_KIND = """
SELECT relkind, format_type(atttypid, NULL) FROM pg_class
LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attname = :key AND attnum > 0
WHERE pg_class.oid = to_regclass(:table)
"""
_HAS_TRIGGER = """
SELECT EXISTS (SELECT FROM pg_trigger
               WHERE tgrelid = to_regclass(:table) AND tgname = :trigger AND tgenabled <> 'D')
"""
_CREATE_TRIGGER = """
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT
EXECUTE FUNCTION enqueue_for_scoring('{contract}', '{key}')
"""
_ENQUEUE = """
INSERT INTO scoring_queue (contract, source_id)
SELECT %(contract)s, observed.{key} FROM {table} AS observed
WHERE NOT EXISTS (SELECT FROM {predictions} AS scored
                  WHERE scored.source = %(source)s AND scored.source_id = observed.{key})
ON CONFLICT DO NOTHING
"""
_TAKE = """
SET LOCAL timezone TO 'UTC';
SELECT queued.source_id, observed.{key} IS NOT NULL, observed.{timestamp}::timestamp::text, {values}
FROM (SELECT source_id FROM scoring_queue WHERE contract = %(contract)s AND source_id >= %(start)s
      ORDER BY source_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS queued
LEFT JOIN {table} AS observed ON observed.{key} = queued.source_id
"""
_DONE = "DELETE FROM scoring_queue WHERE contract = %s AND source_id = ANY(%s::bigint[])"

_LOGGER = logging.getLogger(__name__)


def install(contract: Contract) -> bool:
    """Have new rows of the contract's table queued from now on; gives whether they were not before.

    Raises:
        UserError: The table cannot have such a trigger.
    """
    table, trigger = quoted(contract.table), f"scoring_{contract.name}"
    with engine_for(database_url()).begin() as connection:
        if connection.scalar(text(_HAS_TRIGGER), {"table": table, "trigger": trigger}):
            return False
        asked = {"table": table, "key": contract.key}
        kind, key_type = connection.execute(text(_KIND), asked).one()
        if kind not in ("r", "p") or key_type not in ("smallint", "integer", "bigint"):
            raise UserError(
                f"{contract.table} is no table with a key {contract.key} of whole numbers, so that "
                "nothing tells when a row is new: score it with `kedro run --pipeline scoring`."
            )
        lock(connection, trigger)
        execute_plainly(connection, _LOCK_TIMEOUT)
        key = contract.key.replace("'", "''")
        create = _CREATE_TRIGGER.format(
            trigger=quoted(trigger), table=table, contract=contract.name, key=key
        )
        execute_plainly(connection, create)
    return True


def uninstall(contract: Contract) -> int:
    """Have new rows queued no longer, and forget those that wait; gives how many did."""
    trigger, table = quoted(f"scoring_{contract.name}"), quoted(contract.table)
    with engine_for(database_url()).begin() as connection:
        execute_plainly(connection, _LOCK_TIMEOUT)
        execute_plainly(connection, f"DROP TRIGGER IF EXISTS {trigger} ON {table}")
        forget = text("DELETE FROM scoring_queue WHERE contract = :contract")
        return connection.execute(forget, {"contract": contract.name}).rowcount


def enqueue_unscored(contract: Contract) -> int:
    """Queue every row without a prediction, rejected ones too; gives how many did not wait."""
    values = {"contract": contract.name, "source": contract.table}
    with engine_for(database_url()).begin() as connection:
        forget = "DELETE FROM scoring_rejects WHERE contract = :contract AND source = :source"
        connection.execute(text(forget), values)
        return connection.exec_driver_sql(_ENQUEUE.format(**_names(contract)), values).rowcount


def has_rows(contract: Contract) -> bool:
    """Whether the contract's table has any row."""
    with engine_for(database_url()).connect() as connection:
        query = f"SELECT EXISTS (SELECT FROM {quoted(contract.table)})"  # noqa: S608  (quoted)
        found = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
        return bool(found.scalar())


class RowScorer:
    """Takes rows from the queue, a batch a transaction."""

    def __init__(self, contract: Contract, deployed: Deployed, size: int, totals: Totals) -> None:
        """Say whose rows, what scores them and how many at once; ``totals`` are kept up."""
        self._contract = contract
        self._deployed = deployed
        self._size = size
        self._totals = totals
        # A key that is used again belongs to another row, whose prediction is the one to keep.
        self._sink = Sink(contract, replace=True)

    def run(self, stopping: Event, *, follow: bool) -> None:
        """Score until nothing waits or, when it follows, until it is to stop.

        Raises:
            Exception: It does not follow, and something is missing or away.
        """
        while not stopping.is_set():
            if follow:
                patiently(partial(self._pass, stopping), stopping)
                stopping.wait(POLL_SECONDS)
            elif not self._pass(stopping):
                return

    def _pass(self, stopping: Event) -> bool:
        """Score what waits, in the order of keys; gives whether anything did."""
        start, found = _SMALLEST_KEY, False
        while not stopping.is_set():
            with engine_for(database_url()).begin() as connection:
                taken, scored, rejected = self._score_batch(connection, start)
            self._totals.add(scored, rejected)
            if self._totals.tell(self._waiting) and install(self._contract):
                _LOGGER.warning(
                    "table %s had lost the trigger that queues its new rows; rows of the meantime "
                    "are scored by `kedro score --from-start`",
                    self._contract.table,
                )
            if not taken:
                break
            start, found = max(taken) + 1, True
        return found

    def _score_batch(self, connection: Connection, start: int) -> tuple[list[int], int, int]:
        """Score some rows from a key on, and delete their entries.

        Returns:
            The keys of the entries, and how many rows were scored and how many rejected.
        """
        contract, scorer = self._contract, self._deployed.scorer(connection)
        features = scorer.manifest.contract.features
        # Postgres's times reach beyond the years that Python knows.
        wanted = [
            f"observed.{escaped(name)}{'::text' if one.is_time else ''}"
            for name, one in features.items()
        ]
        take = _TAKE.format(values=", ".join(wanted), **_names(contract))
        values = {"contract": contract.name, "start": start, "limit": self._size}
        taken = connection.exec_driver_sql(take, values).all()
        rows = [
            Arrived(contract.table, key, dict(zip(features, row, strict=True)), time, key)
            for key, is_there, time, *row in taken
            if is_there
        ]
        keys = [row[0] for row in taken]
        predictions, rejects = self._sink.score(connection, scorer, rows) if rows else ([], [])
        connection.exec_driver_sql(_DONE, (contract.name, keys))
        return keys, len(predictions), len(rejects)

    def _waiting(self) -> int:
        query = text("SELECT count(*) FROM scoring_queue WHERE contract = :contract")
        with engine_for(database_url()).connect() as connection:
            return int(connection.scalar(query, {"contract": self._contract.name}) or 0)


def _names(contract: Contract) -> dict[str, str]:
    return {
        "table": escaped(contract.table),
        "key": escaped(contract.key),
        "timestamp": escaped(contract.timestamp),
        "predictions": escaped(prediction_table(contract)),
    }
