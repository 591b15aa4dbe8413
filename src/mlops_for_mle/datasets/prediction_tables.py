"""Predictions in a table of Postgres, with the rejects in another one beside it."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast
from uuid import uuid4

import pandas as pd
import psycopg2
import pyarrow as pa
from psycopg2 import extensions, sql
from pyarrow import csv

from mlops_for_mle.database import DatabaseUnavailableError, reachable
from mlops_for_mle.errors import SourceError, UserError
from mlops_for_mle.scoring.batch_options import rejects_beside
from mlops_for_mle.scoring.batches import REJECT_SCHEMA, ScoredChunk

# Tells tables that may be replaced from those that somebody else has made.
_MARK = "Predictions of `kedro run --pipeline scoring`, which replaces this table."

_COMMENT = """
SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)
"""
_TYPES = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", "UTC"): "timestamptz",
    pa.list_(pa.float64()): "double precision[]",
}


class PredictionTables:
    """Two tables that are replaced in one transaction."""

    def __init__(self, url: str, table: str) -> None:
        """Name the table of predictions, with its schema or without."""
        self._url = url
        self._table = table

    @contextmanager
    def writing(self, schema: pa.Schema) -> Iterator[Callable[[ScoredChunk], None]]:
        """Give a function that writes chunks; both tables appear when the block ends well.

        Raises:
            UserError: They cannot be written, or a table is there that somebody else has made.
        """
        targets = {self._table: schema, rejects_beside(self._table): REJECT_SCHEMA}
        suffix = uuid4().hex[:8]
        with self._transaction() as cursor:
            stages: dict[str, str] = {}
            for table, columns in targets.items():
                self._check_replaceable(cursor, table)
                stages[table] = _beside(table, f"scoring_{suffix}_{len(stages)}")
                cursor.execute(
                    sql.SQL("CREATE TABLE {} ({})").format(
                        _identifier(stages[table]), _columns(columns)
                    )
                )

            def write(chunk: ScoredChunk) -> None:
                rows = (chunk.predictions, chunk.rejected)
                for stage, part in zip(stages.values(), rows, strict=True):
                    _copy(cursor, stage, part)

            yield write
            cursor.execute("SET LOCAL lock_timeout = '30s'")
            for table, stage in stages.items():
                cursor.execute(
                    sql.SQL(
                        "DROP TABLE IF EXISTS {target}; ALTER TABLE {stage} RENAME TO {name}; "
                        "COMMENT ON TABLE {target} IS {mark}"
                    ).format(
                        target=_identifier(table),
                        stage=_identifier(stage),
                        name=sql.Identifier(table.split(".", 1)[-1]),
                        mark=sql.Literal(_MARK),
                    )
                )

    def read(self, row_limit: int | None = None) -> pd.DataFrame:
        """The predictions, or the first of them.

        Raises:
            SourceError: They were not written yet.
        """
        if not self.exists():
            raise SourceError(
                f"Table {self._table} is not there: run `kedro run --pipeline scoring` first"
            )
        query = sql.SQL("SELECT * FROM {} ORDER BY row_number LIMIT {}").format(
            _identifier(self._table), sql.Literal(row_limit)
        )
        with self._transaction() as cursor:
            cursor.execute(query)
            names = [column.name for column in cursor.description or ()]
            return pd.DataFrame(cursor.fetchall(), columns=names)

    def exists(self) -> bool:
        """Whether the table of predictions is there."""
        with self._transaction() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (_quoted(self._table),))
            return bool(cursor.fetchall()[0][0])

    def _check_replaceable(self, cursor: extensions.cursor, table: str) -> None:
        cursor.execute(_COMMENT, (_quoted(table),))
        found = cursor.fetchone()
        if found is not None and found[0] != _MARK:
            raise UserError(
                f"scoring.output: table {table} is there and was not made by this pipeline, which "
                "would replace it: name another one, or drop it."
            )

    @contextmanager
    def _transaction(self) -> Iterator[extensions.cursor]:
        with reachable(self._url) as engine, engine.begin() as borrowed:
            connection = cast(extensions.connection, borrowed.connection)
            try:
                with connection.cursor() as cursor:
                    yield cursor
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                borrowed.invalidate(error)
                raise DatabaseUnavailableError(
                    f"Table {self._table} cannot be written: {_first_line(error)}"
                ) from error
            except psycopg2.Error as error:
                raise UserError(
                    f"Table {self._table} cannot be written: {_first_line(error)}"
                ) from error


def _columns(schema: pa.Schema) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(one.name), sql.SQL(_TYPES.get(one.type, "text")))
        for one in schema
    )


def _copy(cursor: extensions.cursor, table: str, rows: pa.Table) -> None:
    for index, field in enumerate(rows.schema):
        if pa.types.is_list(field.type):
            lists = (f"{{{','.join(map(repr, one))}}}" for one in rows[field.name].to_pylist())
            rows = rows.set_column(index, field.name, pa.array(lists, pa.string()))
    content = io.BytesIO()
    csv.write_csv(rows, content, csv.WriteOptions(include_header=False))
    content.seek(0)
    statement = sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv)").format(_identifier(table))
    cursor.copy_expert(statement, content)


def _beside(table: str, name: str) -> str:
    schema, dot, _ = table.rpartition(".")
    return f"{schema}{dot}{name}"


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split(".", 1))


def _quoted(table: str) -> str:
    parts = (part.replace('"', '""') for part in table.split(".", 1))
    return ".".join(f'"{part}"' for part in parts)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
