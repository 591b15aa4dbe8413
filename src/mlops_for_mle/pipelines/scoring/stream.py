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
from mlops_for_mle.pipelines.scoring.following import Arrivals, Arrived

# Whoever writes to the table waits behind one who waits for its lock.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout TO '10s'"
_HAS_TRIGGER = """
SELECT EXISTS (SELECT FROM pg_trigger
               WHERE tgrelid = to_regclass(:table) AND tgname = :trigger AND tgenabled <> 'D')
"""
_CREATE_TRIGGER = """
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table}
REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT
EXECUTE FUNCTION enqueue_for_scoring({arguments})
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
        arguments = f"{literal(contract.name)}, {literal(contract.key)}"
        names = {"trigger": quoted(trigger), "table": table, "arguments": arguments}
        execute_plainly(connection, _LOCK_TIMEOUT)
        execute_plainly(connection, _CREATE_TRIGGER.format(**names))
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


class RowQueue(Arrivals):
    """The rows that wait, in the order of their keys."""

    def __init__(self, contract: Contract, size: int) -> None:
        """Say whose rows, and how many at once."""
        self._contract = contract
        self._size = size

    def take(self, connection: Connection, features: Mapping[str, Feature]) -> list[Arrived]:
        """Take rows from the queue; their values are those of now."""
        contract = self._contract
        # Postgres's times reach beyond the years that Python knows.
        values = ", ".join(
            f"observed.{_escaped(name)}{'::text' if one.is_time else ''}"
            for name, one in features.items()
        )
        statement = _TAKE.format(values=values, **_names(contract))
        limits = {"contract": contract.name, "size": self._size}
        # Where all that were taken are no longer in the table, the next ones may be.
        while taken := connection.exec_driver_sql(statement, limits).all():
            rows = [
                Arrived(contract.table, key, dict(zip(features, row, strict=True)), time, key)
                for key, is_there, time, *row in taken
                if is_there
            ]
            if rows:
                return rows
        return []


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
