"""Rows out of a table or a query in some PostgreSQL database."""

import os
from contextlib import suppress
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from mlops_for_mle.database.copying import begin_reading, copy_rows, relation
from mlops_for_mle.database.engine import engine_for, normalise_url
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.data_ingestion.sources import SourceDataset

# By the object ids of Postgres's own types: times, and whether they have a zone.
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
        """The rows, with the types that ``read_query`` gives."""
        with engine_for(self._url).connect() as connection:
            query = self._query or f"SELECT * FROM {relation(connection, str(self._table))}"  # noqa: S608
            connection.rollback()
            return read_query(connection, query)

    def _describe(self) -> dict[str, Any]:
        return {"table": self._table, "query": self._query}


def read_query(connection: Connection, query: str, row_limit: int | None = None) -> pd.DataFrame:
    """Read the rows of one SELECT, or the first of them, in a transaction that cannot write.

    Returns:
        Whole numbers as Int64, others as float64, dates and times as datetime64 where pandas can
        hold all of them, everything else as the text that the server writes.

    Raises:
        psycopg2.Error: The database refuses the query; more than one statement is refused.
    """
    import pyarrow as pa

    types = {16: pa.bool_(), **dict.fromkeys((20, 21, 23), pa.int64())}
    types |= dict.fromkeys((700, 701, 1700), pa.float64())
    columns = begin_reading(connection, query)
    select = query.strip().removesuffix(";")
    if row_limit is not None:
        select = f"SELECT * FROM ({select}\n) AS source LIMIT {row_limit}"  # noqa: S608
    # By position, since two columns may have one name, which is told later.
    kinds = {str(n): types.get(one.type_code, pa.string()) for n, one in enumerate(columns)}
    batches = copy_rows(connection, select, list(kinds.values()))
    table = pa.Table.from_batches(batches, pa.schema(kinds))
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    rows: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    for name, column in zip(kinds, columns, strict=True):
        if column.type_code in _TIMES:
            # What pandas cannot hold, such as infinity, stays text for the contract to refuse.
            with suppress(ValueError):
                is_utc = _TIMES[column.type_code]
                rows[name] = pd.to_datetime(rows[name], format="ISO8601", utc=is_utc)
    return rows.set_axis([column.name for column in columns], axis="columns")
