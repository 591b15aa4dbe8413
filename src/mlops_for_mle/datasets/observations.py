"""The contract's table as two catalog entries: batches are appended, windows are read."""

import logging
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from psycopg2.errors import LockNotAvailable
from sqlalchemy import ColumnClause, Engine, column, func, select, table, text
from sqlalchemy.exc import OperationalError

from mlops_for_mle.column_values import read_rows, with_contract_types
from mlops_for_mle.contract.tables import quoted
from mlops_for_mle.database import reachable
from mlops_for_mle.database.engine import execute_plainly
from mlops_for_mle.datasets.base import ContractTables, ReadOnlyDataset
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.datasets.sources import CsvSourceDataset
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.records import HELD_BACK, Batch, BatchReceipt, Window

_LONGEST_REASON = 200

_LOGGER = logging.getLogger(__name__)


class ObservationBatchDataset(ContractTables, AbstractDataset[Batch, BatchReceipt]):
    """Appends batches to the contract's table; safe to replay."""

    _receipt: BatchReceipt | None = None

    def save(self, data: Batch) -> None:
        """Write the batch in one transaction; of one in the ledger, only rejects that now fit."""
        with reachable(self._url) as engine:
            self._receipt = receipt = write_batch(engine, self._contract, data)
        table, name = self._contract.table, f"batch={receipt.batch_id}"
        if receipt.is_new:
            did = f"{receipt.row_count} rows into {table}, {receipt.rejected_count} rejected"
        elif receipt.let_in:
            did = (
                f"ingested before; {receipt.let_in} rejected row(s) fit the contract now and were "
                f"let into {table}"
            )
        else:
            did = "ingested before, nothing written"
        _LOGGER.info("%s source=%s: %s", name, receipt.source, did)
        if receipt.rejected_count:
            _LOGGER.warning(
                "%s: %d row(s) %s; see their reasons in table rejected_rows",
                name,
                receipt.rejected_count,
                f"were rejected{_main_reason(data)}" if receipt.is_new else "are still rejected",
            )

    def load(self) -> BatchReceipt:
        """What the ledger says of the batch that this process wrote last."""
        if self._receipt is None:
            raise PrerequisiteError(
                "No batch was ingested yet: run `kedro run --pipeline data_ingestion` first."
            )
        return self._receipt

    def _describe(self) -> dict[str, Any]:
        return {"table": self._contract.table}


class ObservationWindowDataset(ContractTables, ReadOnlyDataset[Window]):
    """Reads the newest rows of the contract's table up to a watermark, or a CSV file."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        row_limit: int | None = None,
        watermark: int | None = None,
        csv_path: str | None = None,
        csv_encoding: str = "utf-8",
        csv_separator: str = "comma",
        csv_decimal: str = "point",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Say which rows.

        Args:
            contract: The parameters block ``contract``.
            credentials: With the key ``con``, a URL.
            row_limit: At most this many rows, the newest; None reads all.
            watermark: The largest key to read; None reads up to the newest row of now.
            csv_path: Read this file instead of the table.
            csv_encoding: How that file is written, as ``CsvSourceDataset`` has it.
            csv_separator: What stands between its fields.
            csv_decimal: What stands before the fraction of its numbers.
            metadata: For Kedro-Viz.
        """
        super().__init__(contract, credentials, metadata)
        self._row_limit = row_limit
        self._watermark = watermark
        self._csv_path = csv_path
        self._csv_form = (csv_encoding, csv_separator, csv_decimal)

    def load(self) -> Window:
        """The rows in ascending order of their key.

        Raises:
            PrerequisiteError: The table has no rows yet.
        """
        if self._csv_path:
            return Window(self._csv_path, self._read_csv(self._csv_path))
        with reachable(self._url) as engine:
            watermark = self._watermark or self._newest_key(engine)
            rows = self._read_rows(engine, watermark, self._row_limit)
        if rows.empty:
            raise PrerequisiteError(
                f"Table {self._contract.table} has no rows to train on: "
                "run `kedro run --pipeline data_ingestion` first."
            )
        return Window(self._contract.table, rows)

    def preview(self, nrows: int = 10) -> TablePreview:
        """The newest rows, for Kedro-Viz."""
        with reachable(self._url) as engine:
            rows = self._read_rows(engine, self._newest_key(engine), nrows)
        return TablePreview(rows.to_dict(orient="split"))

    def _read_csv(self, path: str) -> pd.DataFrame:
        rows = CsvSourceDataset(path, *self._csv_form).load()
        missing = [name for name in self._contract.columns if name not in rows.columns]
        if missing:
            raise UserError(
                f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(rows.columns)}"
            )
        chosen = rows.loc[:, list(self._contract.columns)]
        chosen = chosen.tail(self._row_limit) if self._row_limit else chosen
        try:
            return read_rows(chosen.reset_index(drop=True), self._contract)
        except ValueError as error:
            raise UserError(
                f"{path}: {error}; ingest the file to sort out rows that do not fit"
            ) from None

    def _newest_key(self, engine: Engine) -> int:
        # A transaction that still runs may commit smaller keys than the newest one seen; the
        # lock waits for such writers, so that the same watermark always means the same rows.
        key: ColumnClause[int] = column(self._contract.key)
        try:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '30s'"))
                execute_plainly(
                    connection, f"LOCK TABLE {quoted(self._contract.table)} IN SHARE MODE"
                )
                newest = connection.scalar(
                    select(func.max(key)).select_from(table(self._contract.table, key))
                )
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise UserError(
                    f"Table {self._contract.table}: another program has been writing to it in one "
                    "transaction for more than 30 s; try again when it has ended."
                ) from None
            raise
        return int(newest or 0)

    def _read_rows(self, engine: Engine, watermark: int, row_limit: int | None) -> pd.DataFrame:
        contract = self._contract
        names = [contract.key, contract.timestamp, *contract.columns]
        key: ColumnClause[int] = column(contract.key)
        chosen: list[ColumnClause[Any]] = [column(name) for name in names]
        query = (
            select(*chosen)
            .select_from(table(contract.table))
            .where(key <= watermark)
            .order_by(key.desc())
            .limit(row_limit)
        )
        with engine.connect() as connection:
            rows = pd.read_sql_query(query, connection)
        return with_contract_types(rows.iloc[::-1].reset_index(drop=True), contract)

    def _describe(self) -> dict[str, Any]:
        return {
            "table": self._contract.table,
            "row_limit": self._row_limit,
            "watermark": self._watermark,
            "csv_path": self._csv_path,
        }


def _main_reason(batch: Batch) -> str:
    """Why all were held back, if they were, and the reason that most rejected rows have first."""
    if batch.rejected.empty:
        return ""
    reasons = batch.rejected["reason"].str.partition("; ")[0]
    is_held_back = reasons.str.startswith(HELD_BACK)
    why = f": {reasons[is_held_back].iloc[0].removeprefix(HELD_BACK)}" if is_held_back.any() else ""
    known = reasons[~is_held_back]
    if known.empty:
        return why
    return f"{why} (most often: {known.value_counts().index[0][:_LONGEST_REASON]})"
