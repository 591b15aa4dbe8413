"""New rows of a contract's table, which a trigger queues in ``scoring_queue``.

Whoever scores rows locks their entries, passing over those that others have locked, and deletes
them in the transaction that writes the predictions. So each row is scored once, by however many
processes, whichever dies when.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.sql import literal, prediction_table, quoted
from mlops_for_mle.database.engine import database_url, engine_for, execute_plainly
from mlops_for_mle.pipelines.scoring.following import Arrived, Follower

# A name with _text at its end is a literal, any other is quoted.
_HAS_TRIGGER = """
SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(quote_ident({table_text}))
                                  AND tgname = {trigger_text} AND tgenabled <> 'D'
"""
# Whoever writes to the table waits behind one who waits for its lock.
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
_ENQUEUE = """
DELETE FROM scoring_rejects WHERE contract = {contract_text} AND source = {table_text};
INSERT INTO scoring_queue (contract, source_id)
SELECT {contract_text}, observed.{key} FROM {table} AS observed
WHERE NOT EXISTS (SELECT FROM {predictions} AS scored
                  WHERE scored.source = {table_text} AND scored.source_id = observed.{key})
ON CONFLICT DO NOTHING
"""
_TAKE = """
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


def install(contract: Contract) -> bool:
    """Have new rows of the contract's table queued from now on; gives whether they were not."""
    with engine_for(database_url()).begin() as connection:
        is_new = not _execute(connection, _HAS_TRIGGER, contract).scalar_one()
        if is_new:
            _execute(connection, _CREATE_TRIGGER, contract)
        return is_new


def uninstall(contract: Contract) -> int:
    """Have new rows queued no longer, and forget those that wait; gives how many did."""
    with engine_for(database_url()).begin() as connection:
        return _execute(connection, _DROP_TRIGGER, contract).rowcount


def enqueue_unscored(contract: Contract) -> int:
    """Queue every row without a prediction, rejected ones too; gives how many did not wait."""
    with engine_for(database_url()).begin() as connection:
        return _execute(connection, _ENQUEUE, contract).rowcount


class RowFollower(Follower):
    """Scores the rows that wait, in the order of their keys, by the values that they have then."""

    def _take(
        self, connection: Connection, features: Mapping[str, Feature]
    ) -> list[Arrived] | None:
        # Postgres's times reach beyond the years that Python knows.
        values = ", ".join(
            f"observed.{quoted(name)}{'::text' if one.is_time else ''}"
            for name, one in features.items()
        )
        taken = _execute(connection, _TAKE, self._contract, size=self._size, values=values).all()
        rows, source = [], self._contract.table
        for key, is_there, time, *row in map(tuple, taken):
            place = {"source": source, "source_id": key, "row_key": key, "timestamp": time}
            if is_there:
                rows.append(Arrived(place, dict(zip(features, row, strict=True))))
        return rows if taken else None


def _execute(
    connection: Connection, statement: str, contract: Contract, **others: Any
) -> CursorResult[Any]:
    """Execute a statement with the names of a contract in it, as SQL writes them."""
    names = {
        "contract": contract.name,
        "table": contract.table,
        "key": contract.key,
        "timestamp": contract.timestamp,
        "predictions": prediction_table(contract),
        "trigger": f"scoring_{contract.name}",
    }
    known = {name: quoted(one) for name, one in names.items()}
    known |= {f"{name}_text": literal(one) for name, one in names.items()}
    return execute_plainly(connection, statement.format(**known, **others))
