"""Writes a batch into Postgres: rows, rejects and the ledger in one transaction."""

import io
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd
import psycopg2
import pyarrow as pa
from psycopg2 import extensions, sql
from psycopg2.extras import execute_values
from pyarrow import csv
from sqlalchemy import Engine

from mlops_for_mle.contract import Contract
from mlops_for_mle.records import Batch, BatchReceipt

_LEDGER_INSERT = """
INSERT INTO ingestion_batches (table_name, source, content_sha256, row_count, rejected_count)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT ON CONSTRAINT ingestion_batches_content_key DO NOTHING
RETURNING id
"""
# The lock makes two processes take turns that let rows of the same batch in.
_LEDGER_LOOKUP = """
SELECT id, row_count, rejected_count FROM ingestion_batches
WHERE table_name = %s AND source = %s AND content_sha256 = %s
FOR NO KEY UPDATE
"""
_LEDGER_UPDATE = """
UPDATE ingestion_batches
SET row_count = row_count + %(let_in)s, rejected_count = rejected_count - %(let_in)s
WHERE id = %(id)s
"""
_REJECTS_INSERT = """
INSERT INTO rejected_rows (batch_id, table_name, source, row_number, reason, row_data)
VALUES %s
"""


def write_batch(engine: Engine, contract: Contract, batch: Batch) -> BatchReceipt:
    """Write a batch; of one that the ledger has, let in the rejected rows that fit by now.

    Everything is one transaction: a process that is killed leaves nothing, and a second process
    with the same batch waits for the first one's outcome.

    Raises:
        psycopg2.OperationalError: The connection was lost; the ledger knows the outcome.
    """
    identity = (contract.table, batch.source, batch.content_sha256)
    counts = (len(batch.accepted), len(batch.rejected))
    pooled = engine.raw_connection()
    connection = cast(extensions.connection, pooled)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_LEDGER_INSERT, (*identity, *counts))
            inserted = cursor.fetchone()
            if inserted is None:
                cursor.execute(_LEDGER_LOOKUP, identity)
                number, row_count, rejected = cursor.fetchall()[0]
                known = BatchReceipt(number, batch.source, row_count, rejected, is_new=False)
                receipt = _let_in(cursor, contract, batch, known)
            else:
                receipt = BatchReceipt(inserted[0], batch.source, *counts, is_new=True)
                _copy_rows(cursor, contract, batch.accepted, receipt.batch_id)
                _insert_rejects(cursor, contract.table, batch.rejected, receipt)
        connection.commit()
    except BaseException as error:
        is_lost = bool(connection.closed)
        # Closes it, which rolls back too, and works on a connection that is broken.
        pooled.invalidate()
        if is_lost and isinstance(error, psycopg2.Error):
            raise psycopg2.OperationalError(str(error)) from error
        raise
    finally:
        pooled.close()
    return receipt


def _let_in(
    cursor: extensions.cursor, contract: Contract, batch: Batch, known: BatchReceipt
) -> BatchReceipt:
    """Move rows out of the rejects that this contract accepts; give those that stay its reasons."""
    cursor.execute("SELECT row_number FROM rejected_rows WHERE batch_id = %s", (known.batch_id,))
    waiting = [row[0] for row in cursor.fetchall()]
    refused = batch.rejected["row_number"]
    accepted = np.setdiff1d(np.arange(1, len(batch.accepted) + len(refused) + 1), list(refused))
    fitting = batch.accepted[np.isin(accepted, waiting)]
    if fitting.empty:
        return known
    cursor.execute("DELETE FROM rejected_rows WHERE batch_id = %s", (known.batch_id,))
    _copy_rows(cursor, contract, fitting, known.batch_id)
    _insert_rejects(cursor, contract.table, batch.rejected[refused.isin(waiting)], known)
    let_in = len(fitting)
    cursor.execute(_LEDGER_UPDATE, {"let_in": let_in, "id": known.batch_id})
    return replace(
        known,
        row_count=known.row_count + let_in,
        rejected_count=known.rejected_count - let_in,
        let_in=let_in,
    )


def _copy_rows(
    cursor: extensions.cursor, contract: Contract, rows: pd.DataFrame, batch_id: int
) -> None:
    if rows.empty:
        return
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.columns))
    cursor.execute(
        sql.SQL(
            "CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"
        ).format(columns, sql.Identifier(contract.table))
    )
    cursor.copy_expert("COPY staged_rows FROM STDIN WITH (FORMAT csv)", _as_csv(rows))
    data_columns = [name for name in rows.columns if name != contract.timestamp]
    values = sql.SQL(", ").join(map(sql.Identifier, data_columns))
    clock: sql.Composable = sql.SQL("timezone('utc', now())")
    if contract.timestamp in rows.columns:
        clock = sql.SQL("COALESCE({}, {})").format(sql.Identifier(contract.timestamp), clock)
    cursor.execute(
        sql.SQL(
            "WITH inserted AS ("
            "INSERT INTO {table} ({names}) SELECT {values} FROM staged_rows RETURNING {key}) "
            "UPDATE ingestion_batches SET first_id = LEAST(first_id, bounds.low), "
            "last_id = GREATEST(last_id, bounds.high) FROM "
            "(SELECT min({key}) AS low, max({key}) AS high FROM inserted) AS bounds "
            "WHERE id = {batch}"
        ).format(
            table=sql.Identifier(contract.table),
            names=sql.SQL(", ").join([sql.Identifier(contract.timestamp), values]),
            values=sql.SQL(", ").join([clock, values]),
            key=sql.Identifier(contract.key),
            batch=sql.Literal(batch_id),
        )
    )


def _insert_rejects(
    cursor: extensions.cursor, table: str, rejected: pd.DataFrame, batch: BatchReceipt
) -> None:
    rows = (
        (batch.batch_id, table, batch.source, *row)
        for row in rejected[["row_number", "reason", "row_data"]].itertuples(index=False)
    )
    execute_values(cursor, _REJECTS_INSERT, rows, page_size=1_000)


def _as_csv(rows: pd.DataFrame) -> io.BytesIO:
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(rows, preserve_index=False)
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=False))
    buffer.seek(0)
    return buffer
