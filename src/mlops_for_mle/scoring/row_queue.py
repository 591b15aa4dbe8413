"""The queue of a table's rows that wait to be scored, filled by a trigger on the table.

A row is taken by deleting its entry in the transaction that also writes its prediction: a worker
that dies leaves the entry, and two workers never take the same one. The trigger is made when
scoring is first used, so that a table that nobody scores has no queue that grows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg2
from psycopg2 import extensions, sql

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract_tables import prediction_table_name
from mlops_for_mle.database import reachable
from mlops_for_mle.errors import UserError
from mlops_for_mle.scoring.prediction_store import identifier

_TRIGGER_LOCK = 7_210_005
_COUNTED_AT_MOST = 1_000_000

# Postgres's dates and times reach beyond the years that Python knows, and one such row must not
# hold up the others.
_DATE, _TIMESTAMP, _TIMESTAMP_WITH_ZONE = 1082, 1114, 1184
_TIMES_AS_TEXT = extensions.new_type(
    (_DATE, _TIMESTAMP, _TIMESTAMP_WITH_ZONE), "TIMES_AS_TEXT", lambda value, _: value
)

SMALLEST_ID = -(2**63)

_KEY_TYPE = """
SELECT class.relkind, format_type(attribute.atttypid, attribute.atttypmod)
FROM pg_class AS class
LEFT JOIN pg_attribute AS attribute
    ON attribute.attrelid = class.oid AND attribute.attname = %s AND attribute.attnum > 0
WHERE class.oid = to_regclass(quote_ident(%s))
"""
_HAS_TRIGGER = """
SELECT EXISTS (
    SELECT FROM pg_trigger
    WHERE tgrelid = to_regclass(quote_ident(%s)) AND tgname = %s AND tgenabled <> 'D'
)
"""
_CREATE_TRIGGER = """
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT
EXECUTE FUNCTION enqueue_for_scoring({contract}, {key})
"""
# The array makes Postgres choose and lock the entries once, whatever plan it takes. A row that
# was deleted in the meantime has an entry but no values.
_TAKE = """
WITH taken AS (
    DELETE FROM scoring_queue WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM scoring_queue
        WHERE contract = %(contract)s AND source_id >= %(from_id)s
        ORDER BY source_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING source_id
)
SELECT taken.source_id, observed.{key} IS NOT NULL, observed.{timestamp}::timestamp::text, {values}
FROM taken LEFT JOIN {table} AS observed ON observed.{key} = taken.source_id
"""
# Entries die young and rows are found by their key, so the primary keys are the way, whatever the
# statistics of a moment say; an index also forgets dead entries, which a bitmap does not.
_PLANNER = """
SET enable_bitmapscan = off; SET enable_seqscan = off; SET enable_hashjoin = off;
SET enable_mergejoin = off; SET jit = off
"""
_WAITING = """
SELECT count(*) FROM (
    SELECT FROM scoring_queue WHERE contract = %(contract)s LIMIT %(limit)s
) AS counted
"""
_ENQUEUE_UNSCORED = """
WITH enqueued AS (
    INSERT INTO scoring_queue (contract, source_id)
    SELECT %(contract)s, observed.{key} FROM {table} AS observed
    WHERE NOT EXISTS (
        SELECT FROM {predictions} AS scored
        WHERE scored.source = %(source)s AND scored.source_id = observed.{key}
    )
    ON CONFLICT DO NOTHING
    RETURNING source_id
), forgotten AS (
    DELETE FROM scoring_rejects AS reject USING enqueued
    WHERE reject.contract = %(contract)s AND reject.source = %(source)s
        AND reject.source_id = enqueued.source_id
)
SELECT count(*) FROM enqueued
"""
# In a statement of its own, which sees what workers have committed while the first one waited.
_FORGET_SCORED = """
DELETE FROM scoring_queue AS queued
WHERE queued.contract = %(contract)s AND EXISTS (
    SELECT FROM {predictions} AS scored
    WHERE scored.source = %(source)s AND scored.source_id = queued.source_id
)
"""
_HAS_ROWS = "SELECT EXISTS (SELECT FROM {table})"


@dataclass(frozen=True, slots=True)
class TakenRows:
    """Rows whose entries were taken from the queue in a transaction that is still open.

    Attributes:
        count: How many entries were taken; some of their rows may have been deleted since.
        ids: The key of each row that is there.
        times: When each was observed, as text that Postgres reads.
        rows: Its features by name.
    """

    count: int
    ids: list[int]
    times: list[str | None]
    rows: list[dict[str, Any]]


class RowQueue:
    """The rows of a contract's table that wait to be scored."""

    def __init__(self, contract: Contract) -> None:
        """Name the table; nothing is read or changed."""
        self._contract = contract
        self._trigger = self._channel = f"scoring_{contract.name}"
        self._names = {
            "table": identifier(contract.table),
            "key": identifier(contract.key),
            "timestamp": identifier(contract.timestamp),
            "predictions": identifier(prediction_table_name(contract)),
        }
        self._values = {"contract": contract.name, "source": contract.table}
        self._features: tuple[str, ...] = ()
        self._take: sql.Composable = sql.SQL("")

    def install(self, url: str) -> bool:
        """Have new rows of the table queued from now on.

        Returns:
            Whether they were not queued before.

        Raises:
            UserError: The table cannot have such a trigger, or this login may not make it.
        """
        with _session(url) as cursor:
            self._check_table(cursor)
            if self.is_installed(cursor):
                return False
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_TRIGGER_LOCK,))
            if self.is_installed(cursor):
                return False
            cursor.execute("SET LOCAL lock_timeout = '30s'")
            try:
                cursor.execute(
                    sql.SQL(_CREATE_TRIGGER).format(
                        trigger=sql.Identifier(self._trigger),
                        table=sql.Identifier(self._contract.table),
                        contract=sql.Literal(self._contract.name),
                        key=sql.Literal(self._contract.key),
                    )
                )
            except psycopg2.errors.InsufficientPrivilege:
                raise UserError(
                    f"Table {self._contract.table}: this login may not make a trigger on it, which "
                    "is how new rows become known: run `kedro score` once as the table's owner."
                ) from None
            except psycopg2.errors.LockNotAvailable:
                raise UserError(
                    f"Table {self._contract.table}: another program has been writing to it in one "
                    "transaction for more than 30 s; try again when it has ended."
                ) from None
        return True

    def uninstall(self, url: str) -> int:
        """Have new rows queued no longer, and forget those that wait.

        Returns:
            How many waited.
        """
        with _session(url) as cursor:
            self._check_table(cursor)
            cursor.execute(
                sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(
                    sql.Identifier(self._trigger), sql.Identifier(self._contract.table)
                )
            )
            cursor.execute("DELETE FROM scoring_queue WHERE contract = %(contract)s", self._values)
            return cursor.rowcount

    def enqueue_unscored(self, url: str) -> int:
        """Queue every row of the table that has no prediction, rejected ones included.

        Returns:
            How many rows were not waiting already.
        """
        with _session(url) as cursor:
            cursor.execute(sql.SQL(_ENQUEUE_UNSCORED).format(**self._names), self._values)
            enqueued = int(_one(cursor))
            cursor.execute(sql.SQL(_FORGET_SCORED).format(**self._names), self._values)
            return max(0, enqueued - cursor.rowcount)

    def has_rows(self, url: str) -> bool:
        """Whether the table has any row at all."""
        with _session(url) as cursor:
            cursor.execute(sql.SQL(_HAS_ROWS).format(**self._names), self._values)
            return bool(_one(cursor))

    def waiting(self, cursor: extensions.cursor) -> int:
        """How many rows wait; a million also where it is more."""
        cursor.execute(_WAITING, {**self._values, "limit": _COUNTED_AT_MOST})
        return int(_one(cursor))

    def is_installed(self, cursor: extensions.cursor) -> bool:
        """Whether new rows are queued; a table that was made anew has lost its trigger."""
        cursor.execute(_HAS_TRIGGER, (self._contract.table, self._trigger))
        return bool(_one(cursor))

    def configure(self, cursor: extensions.cursor) -> None:
        """Set up a session that takes rows and is told on ``connection.notifies`` of new ones."""
        extensions.register_type(_TIMES_AS_TEXT, cursor.connection)
        cursor.execute(_PLANNER)
        # Times are told without their zone.
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))

    def take(
        self,
        cursor: extensions.cursor,
        features: Sequence[str],
        row_limit: int,
        from_id: int = SMALLEST_ID,
    ) -> TakenRows:
        """Take rows, those of the smallest keys first; they are gone once the caller commits.

        Args:
            cursor: Of the transaction that also writes what became of them.
            features: The columns to read.
            row_limit: At most so many.
            from_id: The smallest key to look at. Postgres keeps dead entries until a vacuum, and
                a look at all of them takes milliseconds after a million.

        Raises:
            UserError: The table lacks one of the columns.
        """
        if self._features != tuple(features):
            self._features = tuple(features)
            columns = [sql.SQL("observed.{}").format(identifier(name)) for name in features]
            self._take = sql.SQL(_TAKE).format(**self._names, values=sql.SQL(", ").join(columns))
        try:
            cursor.execute(self._take, {**self._values, "limit": row_limit, "from_id": from_id})
        except psycopg2.errors.UndefinedColumn as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"Table {self._contract.table} does not fit the deployed release, which needs "
                f"{', '.join(features)}: {reason}"
            ) from None
        taken = cursor.fetchall()
        present = [row for row in taken if row[1]]
        return TakenRows(
            count=len(taken),
            ids=[row[0] for row in present],
            times=[row[2] for row in present],
            rows=[dict(zip(self._features, row[3:], strict=True)) for row in present],
        )

    def _check_table(self, cursor: extensions.cursor) -> None:
        cursor.execute(_KEY_TYPE, (self._contract.key, self._contract.table))
        kind, key_type = cursor.fetchone() or (None, None)
        if kind is None:
            raise UserError(f"There is no table {self._contract.table}: run `kedro db upgrade`.")
        if kind not in {"r", "p"}:
            raise UserError(
                f"{self._contract.table} is no table, so that nothing tells when a row is new: "
                "score it with `kedro run --pipeline scoring`."
            )
        if key_type not in {"smallint", "integer", "bigint"}:
            raise UserError(
                f"Table {self._contract.table}: rows are scored one by one by a key of whole "
                f"numbers, and {self._contract.key} is {key_type}: score the table with "
                "`kedro run --pipeline scoring`."
            )


@contextmanager
def _session(url: str) -> Iterator[extensions.cursor]:
    """A cursor in a transaction of its own."""
    with reachable(url) as engine, engine.begin() as connection:
        borrowed = cast(extensions.connection, connection.connection)
        with borrowed.cursor() as cursor:
            yield cursor


def _one(cursor: extensions.cursor) -> Any:
    ((value,),) = cursor.fetchall()
    return value
