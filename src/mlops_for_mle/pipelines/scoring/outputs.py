"""Where predictions and rejects of a batch go: two folders of Parquet files, or two tables.

Each attempt at a part stages its rows under a name of its own. What is published in the end are the
attempts that were reported, so one whose worker died, or that was made twice, leaves nothing.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import fsspec
import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection, text

from mlops_for_mle.contract.tables import quoted
from mlops_for_mle.database.engine import engine_for, execute_plainly
from mlops_for_mle.database.reading import relation
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.options import rejects_beside

Write = Callable[[pa.Table, pa.Table], None]

_MARK = "_SUCCESS"
_SQL_TYPES = {
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE PRECISION",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.timestamp("us"): "TIMESTAMP WITHOUT TIME ZONE",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.list_(pa.float64()): "DOUBLE PRECISION[]",
}
_PRESENT = """
SELECT attname, upper(format_type(atttypid, NULL)),
       attnotnull AND NOT (atthasdef OR attidentity <> '' OR attgenerated <> '')
FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped
"""


class Attempt(NamedTuple):
    """A part that was scored: what its rows are staged under, how many, and the first reject."""

    part: int
    name: str
    scored: int
    rejected: int
    example: str


@dataclass(frozen=True)
class ParquetOutput:
    """Two folders of Parquet files, one file a part; a mark says that a folder is whole."""

    path: str

    @cached_property
    def _files(self) -> Any:
        return fsspec.url_to_fs(self.path)[0]

    @cached_property
    def _folders(self) -> tuple[str, str]:
        place = fsspec.url_to_fs(self.path)[1]
        return place, rejects_beside(place)

    def begin(self, schemas: Sequence[pa.Schema]) -> None:
        """Make room for staging; refuse a folder that holds anything else than former parts."""
        self.clear()
        for folder in self._folders:
            for name in self._names(folder):
                if name != _MARK and not name.startswith("part-"):
                    raise UserError(f"scoring.output: {folder} holds {name}: name another folder.")
            self._files.makedirs(_staging(folder), exist_ok=True)

    @contextmanager
    def writing(self, name: str, schemas: Sequence[pa.Schema]) -> Iterator[Write]:
        """Give a function that stages predictions and rejects of an attempt."""
        from pyarrow.parquet import ParquetWriter

        with ExitStack() as stack:
            writers = []
            for folder, schema in zip(self._folders, schemas, strict=True):
                file = stack.enter_context(self._files.open(f"{_staging(folder)}/{name}", "wb"))
                writer = ParquetWriter(file, schema, compression="zstd")
                writers.append(stack.enter_context(writer))

            def write(predictions: pa.Table, rejects: pa.Table) -> None:
                writers[0].write_table(predictions)
                writers[1].write_table(rejects)

            yield write

    def publish(self, attempts: Sequence[Attempt], schemas: Sequence[pa.Schema]) -> None:
        """Move the files to where the former ones were; the mark goes first and comes last."""
        self._files.invalidate_cache()
        for folder in reversed(self._folders):
            if self._files.isfile(folder):
                self._files.rm(folder)
            for name in sorted(self._names(folder)):
                self._files.rm(f"{folder}/{name}")
            self._files.makedirs(folder, exist_ok=True)
            for one in attempts:
                part = f"{folder}/part-{one.part:05}.parquet"
                self._files.mv(f"{_staging(folder)}/{one.name}", part)
            self._files.pipe_file(f"{folder}/{_MARK}", b"")

    def clear(self) -> None:
        """Remove what is staged."""
        for folder in map(_staging, self._folders):
            if self._files.exists(folder):
                self._files.rm(folder, recursive=True)

    def read(self, row_limit: int | None = None) -> pd.DataFrame:
        """The predictions in the order of the source, or the first of them."""
        from pyarrow.dataset import dataset

        found = dataset(self._folders[0], format="parquet", filesystem=self._files)
        rows = found.to_table() if row_limit is None else found.head(row_limit)
        return pd.DataFrame(rows.to_pandas())

    def exists(self) -> bool:
        """Whether there are predictions, all of them."""
        return bool(self._files.exists(f"{self._folders[0]}/{_MARK}"))

    def _names(self, folder: str) -> list[str]:
        found = self._files.ls(folder, detail=False) if self._files.isdir(folder) else []
        return [PurePosixPath(one).name for one in found]


@dataclass(frozen=True)
class TableOutput:
    """Two tables, whose rows are replaced in one transaction."""

    url: str
    table: str

    @property
    def _tables(self) -> tuple[str, str]:
        return self.table, rejects_beside(self.table)

    def begin(self, schemas: Sequence[pa.Schema]) -> None:
        """Make tables for staging; refuse a table that is there and does not fit."""
        self.clear()
        with engine_for(self.url).begin() as connection:
            for table, schema in zip(self._tables, schemas, strict=True):
                _check_fit(connection, table, schema)
                staged = f"attempt TEXT, {_columns(schema)}"
                execute_plainly(connection, f"CREATE UNLOGGED TABLE {_stage(table)} ({staged})")

    @contextmanager
    def writing(self, name: str, schemas: Sequence[pa.Schema]) -> Iterator[Write]:
        """Give a function that stages predictions and rejects of an attempt, by COPY."""
        with engine_for(self.url).begin() as connection:

            def write(predictions: pa.Table, rejects: pa.Table) -> None:
                for table, rows in zip(self._tables, (predictions, rejects), strict=True):
                    _copy(connection, _stage(table), name, rows)

            yield write

    def publish(self, attempts: Sequence[Attempt], schemas: Sequence[pa.Schema]) -> None:
        """Replace all rows; the tables keep their grants and indexes, and others read on."""
        counts = [sum(one.scored for one in attempts), sum(one.rejected for one in attempts)]
        names = ", ".join(f"'{one.name}'" for one in attempts)
        with engine_for(self.url).begin() as connection:
            execute_plainly(connection, "SET LOCAL lock_timeout TO '30s'")
            for table, schema, count in zip(self._tables, schemas, counts, strict=True):
                target, listed = relation(connection, table), ", ".join(map(quoted, schema.names))
                for statement in (
                    f"CREATE TABLE IF NOT EXISTS {target} ({_columns(schema)})",
                    f"DELETE FROM {target}",  # noqa: S608  (quoted)
                    f"INSERT INTO {target} ({listed}) SELECT {listed} FROM {_stage(table)} "  # noqa: S608
                    f"WHERE attempt IN ({names})",
                ):
                    execute_plainly(connection, statement)
                query = f"SELECT count(*) FROM {target}"  # noqa: S608  (quoted)
                found = connection.exec_driver_sql(
                    query, execution_options={"no_parameters": True}
                ).scalar()
                if found != count:
                    raise UserError(f"Another run writes {table} too: run this one again.")

    def clear(self) -> None:
        """Remove what is staged."""
        with engine_for(self.url).begin() as connection:
            for table in self._tables:
                execute_plainly(connection, f"DROP TABLE IF EXISTS {_stage(table)}")

    def read(self, row_limit: int | None = None) -> pd.DataFrame:
        """The predictions in the order of the source, or the first of them."""
        with engine_for(self.url).connect() as connection:
            limit = "" if row_limit is None else f" LIMIT {row_limit}"
            query = f"SELECT * FROM {relation(connection, self.table)} ORDER BY row_number{limit}"  # noqa: S608
            found = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
            return pd.DataFrame(found.fetchall(), columns=list(found.keys()))

    def exists(self) -> bool:
        """Whether there are predictions."""
        with engine_for(self.url).connect() as connection:
            place = {"table": relation(connection, self.table)}
            return connection.execute(text(_PRESENT), place).first() is not None


def _staging(folder: str) -> str:
    """Beside the folder; readers take nothing for data that begins with an underscore."""
    place = PurePosixPath(folder)
    return str(place.with_name(f"_{place.name}.staging"))


def _stage(table: str) -> str:
    return f"scoring_stage_{sha256(table.encode()).hexdigest()[:12]}"


def _sql_type(kind: pa.DataType) -> str:
    return _SQL_TYPES.get(kind, "TEXT")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{quoted(one.name)} {_sql_type(one.type)}" for one in schema)


def _check_fit(connection: Connection, table: str, schema: pa.Schema) -> None:
    """Compare a table that is there with what is to be written, before any row is scored."""
    rows = connection.execute(text(_PRESENT), {"table": relation(connection, table)}).all()
    found = {name: kind for name, kind, _ in rows}
    wanted = {one.name: _sql_type(one.type) for one in schema}
    faults = [
        f"{name} is {found.get(name, 'missing')}, predictions need {kind}"
        for name, kind in wanted.items()
        if found.get(name) != kind
    ]
    faults += [f"{name} needs a value" for name, _, needed in rows if needed and name not in wanted]
    if rows and faults:
        raise UserError(
            f"scoring.output: table {table} is there and does not fit: {'; '.join(faults)}. Name "
            "another table, or drop this one."
        )


def _copy(connection: Connection, stage: str, attempt: str, rows: pa.Table) -> None:
    from pyarrow import compute as pc
    from pyarrow import csv, types

    columns = {"attempt": pa.repeat(attempt, rows.num_rows)}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        given = column
        if types.is_list(column.type):
            joined = pc.binary_join(column.cast(pa.list_(pa.string())), ",")
            given = pc.binary_join_element_wise("{", joined, "}", "")
        elif types.is_string(column.type):
            # PostgreSQL holds no NUL.
            given = pc.replace_substring(column, "\x00", "�")
        columns[f".{name}"] = given
    content = io.BytesIO()
    csv.write_csv(pa.table(columns), content, csv.WriteOptions(include_header=False))
    content.seek(0)
    session: Any = connection.connection
    with session.cursor() as cursor:
        cursor.copy_expert(f"COPY {stage} FROM STDIN WITH (FORMAT csv)", content)
