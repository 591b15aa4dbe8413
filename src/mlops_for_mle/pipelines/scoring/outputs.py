"""Where predictions and rejects of a batch go: two folders of Parquet files, or two tables.

Each attempt at a part stages its rows under a name of its own. What is published in the end are the
attempts that were reported, so one whose worker died, or that was made twice, leaves nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import fsspec
import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection

from mlops_for_mle.contract.tables import quoted
from mlops_for_mle.database.copying import copy_in, relation
from mlops_for_mle.database.engine import engine_for, execute_plainly
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.pipelines.scoring.options import rejects_beside

Write = Callable[[pa.Table, pa.Table], None]
Schemas = Sequence[pa.Schema]

_MARK = "_SUCCESS"
_ATTEMPT = ".attempt"
_SQL_TYPES = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", "UTC"): "timestamptz",
    pa.list_(pa.float64()): "double precision[]",
}


class Attempt(NamedTuple):
    """A part that was scored: what its rows are staged under, and how many."""

    first_row: int
    name: str
    scored: int
    rejected: int


@dataclass(frozen=True)
class ParquetOutput:
    """Two folders of Parquet files, one file a part; a mark says that a folder is whole."""

    path: str

    @property
    def _files(self) -> Any:
        return fsspec.url_to_fs(self.path)[0]

    @property
    def _folders(self) -> tuple[str, str]:
        place = fsspec.url_to_fs(self.path)[1]
        return place, rejects_beside(place)

    def begin(self, schemas: Schemas) -> None:
        """Make room for staging; refuse a folder that holds anything else than former parts."""
        self.clear()
        for folder in self._folders:
            for name in self._names(folder):
                if name != _MARK and not name.startswith("part-"):
                    raise UserError(f"scoring.output: {folder} holds {name}: name another folder.")
            self._files.makedirs(_staging(folder), exist_ok=True)

    @contextmanager
    def writing(self, name: str, schemas: Schemas) -> Iterator[Write]:
        """Give a function that stages predictions and rejects of an attempt."""
        from pyarrow.parquet import ParquetWriter

        with ExitStack() as stack:
            writers = []
            for folder, schema in zip(self._folders, schemas, strict=True):
                file = stack.enter_context(self._files.open(f"{_staging(folder)}/{name}", "wb"))
                writer = ParquetWriter(file, schema, compression="zstd")
                writers.append(stack.enter_context(writer))

            def write(*tables: pa.Table) -> None:
                for writer, table in zip(writers, tables, strict=True):
                    writer.write_table(table)

            yield write

    def publish(self, attempts: Sequence[Attempt], schemas: Schemas) -> None:
        """Move the files to where the former ones were; the mark goes first and comes last."""
        files = self._files
        files.invalidate_cache()
        for folder in reversed(self._folders):
            for name in sorted(self._names(folder)):
                files.rm(f"{folder}/{name}")
            files.makedirs(folder, exist_ok=True)
            for number, one in enumerate(attempts):
                files.mv(f"{_staging(folder)}/{one.name}", f"{folder}/part-{number:05}.parquet")
            files.pipe_file(f"{folder}/{_MARK}", b"")

    def clear(self) -> None:
        """Remove what is staged."""
        for folder in map(_staging, self._folders):
            if self._files.exists(folder):
                self._files.rm(folder, recursive=True)

    def read(self) -> pd.DataFrame:
        """The predictions in the order of the source."""
        if not self._files.exists(f"{self._folders[0]}/{_MARK}"):
            raise PrerequisiteError(
                "There are no predictions, or not all: run `kedro run --pipeline scoring` first."
            )
        return pd.read_parquet(self.path)

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

    def begin(self, schemas: Schemas) -> None:
        """Make tables for staging, and see that what comes into them can be published."""
        self.clear()
        with engine_for(self.url).begin() as connection:
            for table, schema in zip(self._tables, schemas, strict=True):
                staged = f"{quoted(_ATTEMPT)} text, {_columns(schema)}"
                execute_plainly(connection, f"CREATE UNLOGGED TABLE {_stage(table)} ({staged})")
        with engine_for(self.url).connect() as connection:
            for table, schema in zip(self._tables, schemas, strict=True):
                _fill(connection, table, schema, [])
            connection.rollback()

    @contextmanager
    def writing(self, name: str, schemas: Schemas) -> Iterator[Write]:
        """Give a function that stages predictions and rejects of an attempt, by COPY."""
        with engine_for(self.url).begin() as connection:

            def write(*tables: pa.Table) -> None:
                for table, rows in zip(self._tables, tables, strict=True):
                    staged = rows.add_column(0, _ATTEMPT, pa.repeat(name, rows.num_rows))
                    copy_in(connection, _stage(table), staged)

            yield write

    def publish(self, attempts: Sequence[Attempt], schemas: Schemas) -> None:
        """Replace all rows; the tables keep their grants and indexes, and others read on."""
        counts = [sum(one.scored for one in attempts), sum(one.rejected for one in attempts)]
        names = [one.name for one in attempts]
        with engine_for(self.url).begin() as connection:
            for table, schema, count in zip(self._tables, schemas, counts, strict=True):
                if _fill(connection, table, schema, names) != count:
                    raise UserError(f"Another run writes {table} too: run this one again.")

    def clear(self) -> None:
        """Remove what is staged."""
        with engine_for(self.url).begin() as connection:
            for table in self._tables:
                execute_plainly(connection, f"DROP TABLE IF EXISTS {_stage(table)}")

    def read(self) -> pd.DataFrame:
        """The predictions in the order of the source."""
        with engine_for(self.url).connect() as connection:
            query = f"SELECT * FROM {relation(connection, self.table)} ORDER BY row_number"  # noqa: S608
            found = execute_plainly(connection, query)
            return pd.DataFrame(found.fetchall(), columns=list(found.keys()))


def _staging(folder: str) -> str:
    """Beside the folder; readers take nothing for data that begins with an underscore."""
    place = PurePosixPath(folder)
    return str(place.with_name(f"_{place.name}.staging"))


def _stage(table: str) -> str:
    return f"scoring_stage_{sha256(table.encode()).hexdigest()[:12]}"


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{quoted(one.name)} {_SQL_TYPES.get(one.type, 'text')}" for one in schema)


def _fill(connection: Connection, table: str, schema: pa.Schema, attempts: Sequence[str]) -> int:
    """Have a table hold the rows of some attempts and no others; gives how many they are."""
    target, listed = relation(connection, table), ", ".join(map(quoted, schema.names))
    # Whoever reads the table reads on; whoever waits for it waits behind this.
    execute_plainly(connection, "SET LOCAL lock_timeout TO '30s'")
    execute_plainly(connection, f"CREATE TABLE IF NOT EXISTS {target} ({_columns(schema)})")
    execute_plainly(connection, f"LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE")
    if attempts:
        execute_plainly(connection, f"DELETE FROM {target}")  # noqa: S608  (quoted)
    chosen = ", ".join(f"'{one}'" for one in attempts) or "NULL"
    filling = f"INSERT INTO {target} ({listed}) SELECT {listed} FROM {_stage(table)} "  # noqa: S608
    return execute_plainly(connection, f"{filling} WHERE {quoted(_ATTEMPT)} IN ({chosen})").rowcount
