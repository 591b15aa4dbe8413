"""Rows out of a table or a query in some PostgreSQL database."""

import os
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

import pandas as pd
import psycopg2
from sqlalchemy import Connection, text

from mlops_for_mle.contract.tables import quoted
from mlops_for_mle.database.engine import engine_for, normalise_url
from mlops_for_mle.errors import ConfigurationError, SourceError
from mlops_for_mle.pipelines.data_ingestion.sources import SourceDataset

# The server itself parses the query when it opens a cursor for it, and takes one statement that
# gives rows: so nothing in it can end the transaction. Scans that share their way, or that several
# workers do, would give the same rows in another order, which would be another batch.
_PREPARE = """
SET TRANSACTION READ ONLY;
SET LOCAL timezone TO 'UTC';
SET LOCAL synchronize_seqscans TO off;
SET LOCAL max_parallel_workers_per_gather TO 0;
SELECT set_config('mlops.query', %s, true);
DO $$ DECLARE rows refcursor := 'mlops_rows';
BEGIN OPEN rows FOR EXECUTE current_setting('mlops.query'); END $$;
FETCH 0 FROM mlops_rows
"""
_TIMES = {1082: False, 1114: False, 1184: True}


class PostgresSourceDataset(SourceDataset):
    """A table or a query, of the database of ``SOURCE_DATABASE_URL`` or of the project's."""

    def __init__(
        self,
        credentials: dict[str, Any],
        table: str | None = None,
        query: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name a table or view, with its schema and a dot where needed, or give one SELECT."""
        if table is None and query is None:
            raise ConfigurationError("source_table or source_query has to be set in globals.yml")
        other = os.environ.get("SOURCE_DATABASE_URL", "").strip()
        self._url = normalise_url(other, "SOURCE_DATABASE_URL") if other else credentials["con"]
        self._table = table
        self._query = query
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The rows, with the types that ``read_query`` gives.

        Raises:
            SourceError: The database refuses the query.
        """
        with engine_for(self._url).connect() as connection:
            query = self._query or _select_all(connection, str(self._table))
            try:
                return read_query(connection, query)
            except psycopg2.Error as error:
                what = "source_query, expected is one SELECT" if self._query else "source_table"
                reason = error.diag.message_primary or error
                raise SourceError(f"{what}: {reason}") from error

    def _describe(self) -> dict[str, Any]:
        return {"table": self._table, "query": self._query}


def read_query(connection: Connection, query: str, row_limit: int | None = None) -> pd.DataFrame:
    """Read the rows of one SELECT, or the first of them, by COPY in a read-only transaction.

    Returns:
        Whole numbers as Int64, others as float64, dates and times as datetime64 where pandas can
        hold all of them, everything else as the text that the server writes.

    Raises:
        psycopg2.Error: The database refuses the query; more than one statement is refused.
    """
    import pyarrow as pa
    from pyarrow import csv

    # By the object ids of Postgres's own types.
    types = {16: pa.bool_(), **dict.fromkeys((20, 21, 23), pa.int64())}
    types |= dict.fromkeys((700, 701, 1700), pa.float64())
    session: Any = connection.connection
    with session.cursor() as cursor, TemporaryFile() as file:
        cursor.execute(_PREPARE, (query,))
        columns = cursor.description
        select = query.strip().removesuffix(";")
        if row_limit is not None:
            select = f"SELECT * FROM ({select}\n) AS source LIMIT {row_limit}"  # noqa: S608
        cursor.copy_expert(f"COPY ({select}\n) TO STDOUT WITH (FORMAT csv)", file)
        # By position, since two columns may have one name, which is told later.
        kinds = {str(n): types.get(one.type_code, pa.string()) for n, one in enumerate(columns)}
        table = pa.schema(kinds).empty_table()
        if file.tell():
            file.seek(0)
            table = csv.read_csv(
                file,
                csv.ReadOptions(column_names=list(kinds)),
                csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                csv.ConvertOptions(
                    column_types=kinds,
                    null_values=[""],
                    true_values=["t"],
                    false_values=["f"],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    rows: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    for name, column in zip(kinds, columns, strict=True):
        if column.type_code in _TIMES:
            # What pandas cannot hold, such as infinity, stays text for the contract to refuse.
            with suppress(ValueError):
                is_utc = _TIMES[column.type_code]
                rows[name] = pd.to_datetime(rows[name], format="ISO8601", utc=is_utc)
    return rows.set_axis([column.name for column in columns], axis="columns")


def _select_all(connection: Connection, name: str) -> str:
    # A dot stands between schema and table, unless there is a table with a dot in its name.
    query = text("SELECT to_regclass(:name)")
    is_whole = connection.scalar(query, {"name": quoted(name)}) is not None
    relation = ".".join(map(quoted, [name] if is_whole else name.split(".", 1)))
    return f"SELECT * FROM {relation}"  # noqa: S608  (quoted)
