"""Rows out of a table or a query in some PostgreSQL database."""

import os
from contextlib import suppress
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from mlops_for_mle.contract.sql import quoted
from mlops_for_mle.database.copying import begin_reading, copy_rows, relation
from mlops_for_mle.database.engine import engine_for, normalise_url
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.pipelines.dataset import ProjectDataset

# By the object ids of Postgres's own types: times, and whether they have a zone.
_TIMES = {1082: False, 1114: False, 1184: True}
_TYPES = "SELECT oid, typname, typcategory FROM pg_type WHERE oid = ANY(%s)"
# What can be read of values that no contract can hold, by their type or its category in pg_type.
_CASTS = {
    **dict.fromkeys(("json", "jsonb"), "{} ->> 'key'"),
    **dict.fromkeys(("time", "timetz"), "extract(hour FROM {})"),
    **{"money": "{}::numeric", "interval": "extract(epoch FROM {})", "bytea": "length({})"},
    **{"A": "{}[1]", "C": "({}).field", "R": "lower({})", "bit": "{}::integer"},
    **dict.fromkeys(("G", "U", "V"), "{}::text"),
    "uuid": "",
}


class PostgresSourceDataset(ProjectDataset):
    """A table or a query, of the database of ``SOURCE_DATABASE_URL`` or of the project's."""

    def __init__(
        self,
        credentials: dict[str, Any],
        table: str | None = None,
        query: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name a table or view, with its schema and a dot where needed, or give one SELECT."""
        super().__init__(metadata, table=table, query=query)
        if table is None and query is None:
            raise ConfigurationError("source_table or source_query has to be set in globals.yml")
        other = os.environ.get("SOURCE_DATABASE_URL", "").strip()
        self._url = normalise_url(other, "SOURCE_DATABASE_URL") if other else credentials["con"]
        self._table, self._query = table or "", query

    def load(self) -> pd.DataFrame:
        """The rows, as ``read_query`` gives them."""
        with engine_for(self._url).connect() as connection:
            query = self._query or f"SELECT * FROM {relation(connection, self._table)}"  # noqa: S608
            connection.rollback()
            return read_query(connection, query)


def read_query(connection: Connection, query: str) -> pd.DataFrame:
    """Read the rows of one SELECT in a transaction that cannot write.

    Returns:
        Whole numbers as Int64, others as float64, dates and times as datetime64 where pandas can
        hold all of them, everything else as the text that the server writes. ``attrs["types"]``
        are the names of Postgres's types by column; ``attrs["left_out"]`` says of columns why no
        contract can hold their values, and what can be read of them.

    Raises:
        psycopg2.Error: The database refuses the query; more than one statement is refused.
    """
    import pyarrow as pa

    kinds = {16: pa.bool_(), **dict.fromkeys((20, 21, 23), pa.int64())}
    kinds |= dict.fromkeys((700, 701, 1700), pa.float64())
    columns = begin_reading(connection, query)
    names = [one.name for one in columns]
    found = connection.exec_driver_sql(_TYPES, ([one.type_code for one in columns],))
    known = {oid: (name, _CASTS.get(name, _CASTS.get(kind))) for oid, name, kind in found}
    # By position, since two columns may have one name, which is told later.
    types = {str(n): kinds.get(one.type_code, pa.string()) for n, one in enumerate(columns)}
    batches = copy_rows(connection, query.strip().removesuffix(";"), list(types.values()))
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    table = pa.Table.from_batches(batches, pa.schema(types))
    rows: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    for name, column in zip(types, columns, strict=True):
        if column.type_code in _TIMES:
            # What pandas cannot hold, such as infinity, stays text for the contract to refuse.
            with suppress(ValueError):
                is_utc = _TIMES[column.type_code]
                rows[name] = pd.to_datetime(rows[name], format="ISO8601", utc=is_utc)
    rows.columns = pd.Index(names)
    told = [(one.name, *known[one.type_code]) for one in columns]
    rows.attrs["types"] = {name: type_ for name, type_, _ in told}
    rows.attrs["left_out"] = {
        name: f"has Postgres's type {type_}, which no contract can hold: read what is to be known "
        f"of it by --query, such as SELECT {cast.format(quoted(name))}"
        for name, type_, cast in told
        if cast
    }
    return rows
