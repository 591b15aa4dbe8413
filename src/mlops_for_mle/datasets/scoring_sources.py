"""Rows to be scored, however many: a table, a query or a Parquet file, read in chunks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import pyarrow as pa
from psycopg2 import sql
from pyarrow import parquet

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import reachable
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.datasets.files import opened
from mlops_for_mle.errors import SourceError
from mlops_for_mle.foreign_errors import usable
from mlops_for_mle.scoring.batch_options import ScoringOptions, place_of
from mlops_for_mle.scoring.batches import RowSource

_WHOLE, _FLOAT = pa.int64(), pa.float64()

# By the object ids of Postgres's own types, with how a column is to be read; every other type is
# read as text.
_TYPES = {
    16: (pa.bool_(), ""),
    20: (_WHOLE, ""),
    21: (_WHOLE, ""),
    23: (_WHOLE, ""),
    700: (_FLOAT, "::float8"),
    701: (_FLOAT, ""),
    1700: (_FLOAT, "::float8"),
    1082: (pa.date32(), ""),
    1114: (pa.timestamp("us"), ""),
    1184: (pa.timestamp("us", "UTC"), ""),
}
_TEXT = (pa.string(), "::text")


class ScoringSourceDataset(ReadOnlyDataset[RowSource]):
    """Names the rows that a batch scores; they are read while they are scored."""

    def __init__(
        self,
        contract: dict[str, Any],
        scoring: dict[str, Any] | None,
        credentials: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters blocks ``contract`` and ``scoring`` and a URL by the key ``con``."""
        self._contract = Contract.model_validate(contract)
        options = parse_configuration(ScoringOptions, scoring, "scoring")
        self._source = options.source or self._contract.table
        self._url: str = credentials["con"]
        self.metadata = metadata

    def load(self) -> RowSource:
        """Look at the columns; no row is read yet.

        Raises:
            SourceError: There is no such table or file, or the query is refused.
            DatabaseUnavailableError: The database does not answer.
        """
        place = place_of(self._source)
        if place == "file":
            return ParquetRows(self._source)
        if place == "query":
            query = sql.SQL(self._source.strip().rstrip(";"))
            return DatabaseRows(self._url, "the query", sql.SQL("({}\n)").format(query))
        table = sql.Identifier(*self._source.split(".", 1))
        order = self._contract.key if self._source == self._contract.table else None
        return DatabaseRows(self._url, f"table {self._source}", table, order)

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}


class DatabaseRows:
    """The rows of a table or query in Postgres, all of one moment."""

    def __init__(
        self, url: str, name: str, relation: sql.Composable, order: str | None = None
    ) -> None:
        """Look at the columns.

        Args:
            url: The database.
            name: What it is, for people.
            relation: A quoted table or a query in parentheses.
            order: The column that decides the order of rows; None leaves it to Postgres.

        Raises:
            SourceError: There is no such table or the query is refused.
        """
        self.name = name
        self._url = url
        self._from = sql.SQL("FROM {} AS source_rows").format(relation)
        self._order = sql.SQL("ORDER BY {}").format(sql.Identifier(order)) if order else sql.SQL("")
        self._is_query = not isinstance(relation, sql.Identifier)
        with self._reading() as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT * {} LIMIT 0").format(self._from))
            self._kinds = [
                (column.name, *_TYPES.get(column.type_code, _TEXT)) for column in cursor.description
            ]
        names = [name for name, _, _ in self._kinds]
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise SourceError(f"{name}: column(s) {', '.join(twice)} twice")
        self.schema = pa.schema([(name, kind) for name, kind, _ in self._kinds])

    def row_count(self) -> int | None:
        """How many rows the table has; None for a query."""
        if self._is_query:
            return None
        with self._reading() as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT count(*) {}").format(self._from))
            return int(cursor.fetchall()[0][0])

    def chunks(self, columns: Sequence[str], row_limit: int) -> Iterator[pa.Table]:
        """Read some columns of all rows, at most so many rows at a time.

        Raises:
            SourceError: The database cannot give a row; the message says why.
        """
        schema = pa.schema([self.schema.field(name) for name in columns])
        casts = {name: cast for name, _, cast in self._kinds}
        chosen = [
            sql.SQL("{}{}").format(sql.Identifier(name), sql.SQL(casts[name])) for name in columns
        ]
        query = sql.SQL("SELECT {} {} {}").format(
            sql.SQL(", ").join(chosen), self._from, self._order
        )
        # With a name, the cursor is the server's, which sends no more rows than are asked for.
        with self._reading() as connection, connection.cursor(name="rows_to_score") as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(row_limit):
                columns_of_rows = zip(*rows, strict=True)
                yield pa.table(
                    [
                        pa.array(values, field.type)
                        for values, field in zip(columns_of_rows, schema, strict=True)
                    ],
                    schema=schema,
                )

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A transaction that cannot write."""
        with reachable(self._url) as engine, engine.connect() as borrowed:
            connection: Any = borrowed.connection
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    cursor.execute("SET LOCAL TIME ZONE 'UTC'")
                yield connection
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                borrowed.invalidate(error)
                raise SourceError(f"{self.name}: {_first_line(error)}") from error
            except (psycopg2.Error, ValueError, OverflowError, pa.ArrowInvalid) as error:
                raise SourceError(f"{self.name}: {_first_line(error)}") from error
            finally:
                borrowed.rollback()


class ParquetRows:
    """The rows of a Parquet file, here or at any URL that fsspec opens."""

    def __init__(self, path: str) -> None:
        """Look at the columns.

        Raises:
            SourceError: There is no such file, or it is no Parquet file.
            UserError: Its place cannot be used.
        """
        self.name = path
        with self._opened() as file:
            self._row_count = int(file.metadata.num_rows)
            self.schema = file.schema_arrow.remove_metadata()

    def row_count(self) -> int | None:
        """How many rows the file has."""
        return self._row_count

    def chunks(self, columns: Sequence[str], row_limit: int) -> Iterator[pa.Table]:
        """Read some columns of all rows, at most so many rows at a time.

        Raises:
            SourceError: The file is damaged.
        """
        with self._opened() as file:
            for batch in file.iter_batches(batch_size=row_limit, columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(list(columns))

    @contextmanager
    def _opened(self) -> Iterator[parquet.ParquetFile]:
        where = self.name
        with usable(where):
            try:
                with opened(where, "Parquet") as file:
                    yield parquet.ParquetFile(file, pre_buffer=False)
            except pa.ArrowException as error:
                raise SourceError(
                    f"{where}: is no Parquet file that can be read: {error}"
                ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
