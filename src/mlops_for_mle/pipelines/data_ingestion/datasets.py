"""The contract's table: batches are appended, windows are read."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns
from mlops_for_mle.contract.notation import read_times
from mlops_for_mle.database.copying import copy_in
from mlops_for_mle.database.engine import UTC_NOW, execute_raw, quoted
from mlops_for_mle.database.tables import ingestion_batches, rejected_rows
from mlops_for_mle.errors import UserError, without_secrets
from mlops_for_mle.pipelines.data_ingestion.nodes import (
    Batch,
    IngestionOptions,
    to_contract,
    validate,
)
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset, read_query
from mlops_for_mle.pipelines.dataset import ContractDataset

_STAGE = "mlops_staged_rows"
_LOGGER = logging.getLogger(__name__)


class WriteResult(NamedTuple):
    """A batch's number in the ledger, and how many rows were written now and are still rejected."""

    batch_id: int
    is_new: bool
    written: int
    rejected: int


class ObservationDataset(ContractDataset):
    """Appends batches to the contract's table, each once; reads its newest rows, or a CSV file."""

    def __init__(
        self,
        row_limit: int | None = None,
        watermark: int | None = None,
        csv_path: str | None = None,
        csv_form: dict[str, Any] | None = None,
        ingestion: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Say which rows are read: the newest up to a key, or those of a file."""
        super().__init__(**options)
        self._row_limit, self._watermark = row_limit, watermark
        self._csv_path, self._csv_form = csv_path, csv_form
        self._description["csv_path"] = csv_path
        self._ingestion = ingestion or {}

    def save(self, data: Batch) -> None:
        """Write the batch in one transaction; if the ledger has it, only rejects that now fit."""
        receipt = write_batch(self._engine, self._contract, data)
        outcome = f"{receipt.written} rows into {self._contract.table}, {receipt.rejected} rejected"
        if not receipt.is_new:
            written = f"now {outcome}" if receipt.written else "nothing written"
            outcome = f"ingested before, {written}"
        _LOGGER.info("batch=%d source=%s: %s", receipt.batch_id, data.source, outcome)
        if receipt.rejected:
            remark = f" ({data.remark})" if data.remark and receipt.is_new else ""
            message = f"{receipt.rejected} row(s) rejected{remark}; see table rejected_rows"
            _LOGGER.warning("batch=%d: %s", receipt.batch_id, message)

    def load(self) -> pd.DataFrame:
        """The rows with the contract's types, in the order of their key; all have to fit it."""
        contract = self._contract
        if self._csv_path:
            return self._load_file(self._csv_path)
        with self._engine.connect() as connection:
            newest = self._watermark or _current_watermark(connection, contract)
            key = quoted(contract.key)
            names = ", ".join(map(quoted, (contract.key, contract.timestamp, *contract.columns)))
            query = (
                f"SELECT {names} FROM {quoted(contract.table)} WHERE {key} <= {newest} "  # noqa: S608
                f"ORDER BY {key} DESC LIMIT {self._row_limit or 'ALL'}"
            )
            rows = read_query(connection, query).iloc[::-1].reset_index(drop=True)
        if rows.empty:
            raise UserError(
                f"Table {contract.table} has no rows to train on: run "
                "`kedro run --pipeline data_ingestion` first. A batch whose rows were deleted "
                "comes back once its rejects and its entry in ingestion_batches are deleted, too."
            )
        typed, faults = check_columns(rows, contract.columns)
        if faults:
            position, reason = next(iter(faults.items()))
            raise UserError(
                f"{contract.table}: {len(faults)} row(s) do not fit contract {contract.name}, "
                f"first {contract.key} {rows[contract.key].iloc[position]}: {reason}. Widen the "
                "contract, or correct or delete such rows."
            )
        keys, times = rows[contract.key].astype("int64"), read_times(rows[contract.timestamp])
        window = pd.concat([keys, times, typed], axis="columns")
        window.attrs["source"] = contract.table
        return window

    def _load_file(self, path: str) -> pd.DataFrame:
        contract, overrides = self._contract, {"source": path, "maximum_rejected_fraction": 1}
        options = IngestionOptions.model_validate({**self._ingestion, **overrides})
        rows = FileSourceDataset("csv", path, self._csv_form).load()
        batch = validate(*to_contract(rows, contract, options), contract, options)
        if batch.remark:
            raise UserError(
                f"{path} does not fit contract {contract.name}, {batch.remark}. Widen the "
                "contract, or correct or delete such rows; ingestion sorts them out."
            )
        rows = batch.accepted.tail(self._row_limit or len(batch.accepted))
        # It becomes known with the model, to everybody who may ask the API for that.
        rows.attrs["source"] = without_secrets(path)
        return rows


def write_batch(engine: Engine, contract: Contract, batch: Batch) -> WriteResult:
    """Write a batch; if the ledger has it already, let in the rejected rows that fit by now.

    Everything is one transaction: a process that is killed leaves nothing, and a second one with
    the same batch waits for the first. To write it again is safe, after a lost connection as well.
    """
    ledger, facts = ingestion_batches, {"table_name": contract.table, "source": batch.source}
    identity = {**facts, "content_sha256": batch.content_sha256}
    new_entry = insert(ledger).values(**identity, row_count=0, rejected_count=0)
    add = new_entry.on_conflict_do_nothing(index_elements=identity)
    with engine.begin() as connection:
        # If the column of somebody's own table has a time zone, a time without one is UTC.
        connection.execute(text("SET LOCAL timezone TO 'UTC'"))
        is_new = connection.execute(add).rowcount == 1
        # With this lock, two processes that let in rows of the same batch take turns.
        find = select(ledger).filter_by(**identity).with_for_update(key_share=True)
        entry = connection.execute(find).one()
        accepted, rejected = batch.accepted, batch.rejected
        if is_new:
            _require_same_table(connection, contract, batch)
        else:
            accepted, rejected = _split_rejects(connection, entry, batch)
            if accepted.empty:
                return WriteResult(entry.id, is_new, 0, entry.rejected_count)
            connection.execute(delete(rejected_rows).filter_by(batch_id=entry.id))
        first, last = _insert(connection, contract, accepted)
        if len(rejected):
            rejects = rejected.assign(batch_id=entry.id, **facts)
            table = pa.Table.from_pandas(rejects, preserve_index=False)
            copy_in(connection, rejected_rows.name, table)
        counts = {
            "row_count": entry.row_count + len(accepted),
            "rejected_count": len(rejected),
            "first_id": func.least(ledger.c.first_id, first),
            "last_id": func.greatest(ledger.c.last_id, last),
        }
        connection.execute(update(ledger).filter_by(id=entry.id).values(**counts))
        return WriteResult(entry.id, is_new, len(accepted), len(rejected))


def _require_same_table(connection: Connection, contract: Contract, batch: Batch) -> None:
    """Raise a ``UserError`` where a table with rows older than its batches may hold this one."""
    ledger, key = ingestion_batches, sa.column(contract.key, sa.BigInteger)
    first = select(func.min(ledger.c.first_id)).filter_by(table_name=contract.table)
    is_older = key < func.coalesce(first.scalar_subquery(), 2**63 - 1)
    has_older = sa.exists().select_from(sa.table(contract.table)).where(is_older)
    is_gone = func.to_regclass(func.quote_ident(ledger.c.table_name)).is_(None)
    same = select(ledger).filter_by(source=batch.source, content_sha256=batch.content_sha256)
    for former in connection.execute(same.where(is_gone, has_older)):
        raise UserError(
            f"The same rows are batch {former.id} of table {former.table_name}, which is not there "
            f"any more, so nothing was written. If {contract.table} is that table under another "
            "name, give its entries in ingestion_batches that table_name; else delete this batch's "
            "rejects and its entry."
        )


def _split_rejects(
    connection: Connection, entry: Row[Any], batch: Batch
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the rows that were rejected before, those that fit by now and those that do not."""
    before = entry.row_count + entry.rejected_count
    row_count = len(batch.accepted) + len(batch.rejected)
    if row_count != before:
        raise UserError(
            f"Batch {entry.id} of {batch.source} was ingested before as {before} rows and is read "
            f"as {row_count} now, so nothing was written: read it as before, or delete its rows, "
            "its rejects and its entry in ingestion_batches."
        )
    numbers = select(rejected_rows.c.row_number).filter_by(batch_id=entry.id)
    waiting = connection.scalars(numbers).all()
    refused = batch.rejected["row_number"]
    accepted = np.setdiff1d(np.arange(1, row_count + 1), refused)
    return batch.accepted[np.isin(accepted, waiting)], batch.rejected[refused.isin(waiting)]


def _insert(connection: Connection, contract: Contract, rows: pd.DataFrame) -> Sequence[Any]:
    """Let rows into the contract's table; gives their first and last key."""
    target, time = quoted(contract.table), quoted(contract.timestamp)
    values = ", ".join(map(quoted, contract.columns))
    clock = f"COALESCE({time}, {UTC_NOW})" if contract.timestamp in rows.columns else UTC_NOW
    # No other columns: their nulls would make a row of a thousand numbers larger than a page.
    empty = f"SELECT {', '.join(map(quoted, rows.columns))} FROM {target} WITH NO DATA"  # noqa: S608
    execute_raw(connection, f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS {empty}")
    copy_in(connection, _STAGE, pa.Table.from_pandas(rows, preserve_index=False))
    move = f"INSERT INTO {target} ({time}, {values}) SELECT {clock}, {values} FROM {_STAGE}"  # noqa: S608
    returned = f"{move} RETURNING {quoted(contract.key)} AS key"
    query = f"WITH inserted AS ({returned}) SELECT min(key), max(key) FROM inserted"  # noqa: S608
    return execute_raw(connection, query).one()


def _current_watermark(connection: Connection, contract: Contract) -> int:
    """The watermark of now.

    A transaction that still runs may commit smaller keys than the newest one seen; the lock waits
    for such writers, so that the same watermark always means the same rows.
    """
    key, table = quoted(contract.key), quoted(contract.table)
    with connection.begin():
        connection.execute(text("SET LOCAL lock_timeout TO '30s'"))
        execute_raw(connection, f"LOCK TABLE {table} IN SHARE MODE")
        newest = execute_raw(connection, f"SELECT max({key}) FROM {table}").scalar()  # noqa: S608
        return newest or 0
