"""Rows out of a table or a query in some PostgreSQL database."""

import os
from typing import Any

import pandas as pd
from psycopg2 import errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.contract.tables import quoted
from mlops_for_mle.database import normalise_url, reachable
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.errors import ConfigurationError, SourceError

URL_VARIABLE = "SOURCE_DATABASE_URL"


class PostgresSourceDataset(ReadOnlyDataset[pd.DataFrame]):
    """A table or the result of a query, read in one read-only transaction."""

    def __init__(
        self,
        credentials: dict[str, Any],
        table: str | None = None,
        query: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Say what is read; ``SOURCE_DATABASE_URL`` names another database than the project's.

        Args:
            credentials: With the key ``con``, the URL of the project's database.
            table: A table or view, with its schema and a dot where that is not on the search path.
            query: One SELECT statement.
            metadata: For Kedro-Viz.

        Raises:
            ConfigurationError: Not exactly one of table and query is given.
        """
        if (table is None) == (query is None):
            raise ConfigurationError(
                "source: a Postgres source needs either source_table or source_query in globals.yml"
            )
        self._url: str = credentials["con"]
        self._table = table
        self._query = query
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """All rows, with the database's types; numeric columns as float64.

        Raises:
            SourceError: There is no such table, or the database refuses the query.
        """
        configured = os.environ.get(URL_VARIABLE, "").strip()
        url = normalise_url(configured, URL_VARIABLE) if configured else self._url
        with reachable(url) as engine, engine.connect() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            query = self._query if self._table is None else self._select(connection, self._table)
            try:
                result = connection.exec_driver_sql(
                    str(query), execution_options={"no_parameters": True}
                )
                rows = result.fetchall() if result.returns_rows else None
            except DBAPIError as error:
                if isinstance(error.orig, errors.ReadOnlySqlTransaction):
                    raise SourceError(
                        f"source_query: a source is only read, expected one SELECT: {self._query}"
                    ) from None
                reason = " ".join(str(error.orig).split())
                raise SourceError(f"source_query: the database refuses it: {reason}") from None
            if rows is None:
                raise SourceError(f"source_query: gives no rows, expected one SELECT: {query}")
            # Built by position, since two columns may have one name, which is told later.
            names = list(result.keys())
            frame = pd.DataFrame.from_records([tuple(row) for row in rows], coerce_float=True)
        if frame.empty:
            return pd.DataFrame(columns=names)
        return frame.set_axis(names, axis="columns")

    def _select(self, connection: Connection, name: str) -> str:
        schema, _, table = name.partition(".")
        for identifier in (quoted(name), f"{quoted(schema)}.{quoted(table)}" if table else ""):
            found = identifier and connection.scalar(
                text("SELECT to_regclass(:name)"), {"name": identifier}
            )
            if found:
                return f"SELECT * FROM {identifier}"  # noqa: S608  (an identifier, quoted)
        raise SourceError(
            f"source_table: there is no table or view {name!r} in the database "
            f"{connection.engine.url.database!r}; names are matched with upper and lower case"
        )

    def _describe(self) -> dict[str, Any]:
        return {"table": self._table, "query": self._query}
