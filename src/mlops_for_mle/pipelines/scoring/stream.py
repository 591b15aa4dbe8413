"""New rows of a contract's table, which a trigger queues in ``scoring_queue``.

Whoever scores rows locks their entries, passing over those that others have locked, and deletes
them in the transaction that writes the predictions. So each row is scored once, by however many
processes, whichever dies when.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.tables import literal, prediction_table, quoted
from mlops_for_mle.database.engine import database_url, engine_for, execute_plainly
from mlops_for_mle.pipelines.scoring.following import Arrived, Follower

_HAS_TRIGGER = """
SELECT EXISTS (SELECT FROM pg_trigger
               WHERE tgrelid = to_regclass(:table) AND tgname = :trigger AND tgenabled <> 'D')
"""
# Whoever writes to the table waits behind one who waits for its lock.
_CREATE_TRIGGER = """
SET LOCAL lock_timeout TO '10s';
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT
EXECUTE FUNCTION enqueue_for_scoring({name}, {key})
"""
_DROP_TRIGGER = "SET LOCAL lock_timeout TO '10s'; DROP TRIGGER IF EXISTS {trigger} ON {table}"
_ENQUEUE = """
DELETE FROM scoring_rejects WHERE contract = %(contract)s AND source = %(source)s;
INSERT INTO scoring_queue (contract, source_id)
SELECT %(contract)s, observed.{key} FROM {table} AS observed
WHERE NOT EXISTS (SELECT FROM {predictions} AS scored
                  WHERE scored.source = %(source)s AND scored.source_id = observed.{key})
ON CONFLICT DO NOTHING
"""
_TAKE = """
SET LOCAL timezone TO 'UTC';
WITH next AS MATERIALIZED (
    SELECT contract, source_id FROM scoring_queue WHERE contract = %(contract)s
    ORDER BY source_id LIMIT %(size)s FOR UPDATE SKIP LOCKED
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
    trigger, table = f"scoring_{contract.name}", quoted(contract.table)
    with engine_for(database_url()).begin() as connection:
        if connection.scalar(text(_HAS_TRIGGER), {"table": table, "trigger": trigger}):
            return False
        arguments = {"name": literal(contract.name), "key": literal(contract.key)}
        statement = _CREATE_TRIGGER.format(trigger=quoted(trigger), table=table, **arguments)
        execute_plainly(connection, statement)
    return True


def uninstall(contract: Contract) -> int:
    """Have new rows queued no longer, and forget those that wait; gives how many did."""
    trigger, table = quoted(f"scoring_{contract.name}"), quoted(contract.table)
    with engine_for(database_url()).begin() as connection:
        execute_plainly(connection, _DROP_TRIGGER.format(trigger=trigger, table=table))
        forget = text("DELETE FROM scoring_queue WHERE contract = :contract")
        return connection.execute(forget, {"contract": contract.name}).rowcount


def enqueue_unscored(contract: Contract) -> int:
    """Queue every row without a prediction, rejected ones too; gives how many did not wait."""
    with engine_for(database_url()).begin() as connection:
        values = {"contract": contract.name, "source": contract.table}
        return connection.exec_driver_sql(_ENQUEUE.format(**_names(contract)), values).rowcount


class RowFollower(Follower):
    """Scores the rows that wait, in the order of their keys, by the values that they have then."""

    def _take(
        self, connection: Connection, features: Mapping[str, Feature]
    ) -> list[Arrived] | None:
        contract = self._contract
        # Postgres's times reach beyond the years that Python knows.
        values = ", ".join(
            f"observed.{_escaped(name)}{'::text' if one.is_time else ''}"
            for name, one in features.items()
        )
        statement = _TAKE.format(values=values, **_names(contract))
        limits = {"contract": contract.name, "size": self._size}
        taken = connection.exec_driver_sql(statement, limits).all()
        rows = []
        for key, is_there, time, *row in taken:
            place = {"source": contract.table, "source_id": key, "row_key": key, "timestamp": time}
            if is_there:
                rows.append(Arrived(place, dict(zip(features, row, strict=True))))
        return rows if taken else None


def _names(contract: Contract) -> dict[str, str]:
    return {
        "table": _escaped(contract.table),
        "key": _escaped(contract.key),
        "timestamp": _escaped(contract.timestamp),
        "predictions": _escaped(prediction_table(contract)),
    }


def _escaped(name: str) -> str:
    """A quoted name for a statement that is executed with parameters, where % has a meaning."""
    return quoted(name).replace("%", "%%")
