"""Where rows of a batch go, predictions or rejects: a folder of Parquet files, or a table.

Each attempt at a part stages its rows under a name of its own. What is published in the end are the
attempts that were reported, so one whose worker died, or that was made twice, leaves nothing.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.implementations.dirfs import DirFileSystem
from sqlalchemy import Connection

from mlops_for_mle.database.copying import copy_in, relation
from mlops_for_mle.database.engine import engine_for, execute_raw, literal, quoted
from mlops_for_mle.errors import UserError
from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.scoring.nodes import location_kind
from mlops_for_mle.releases.manifest import sha256_of

_MARK = "_SUCCESS"
# Other programs call their files part-…, too.
_OUR_FILE = re.compile(rf"{_MARK}|_?part-\d+-[0-9a-f]{{32}}\.parquet")
_SQL_TYPES = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.list_(pa.float64()): "double precision[]",
}

Write = Callable[[pa.Table], object]


@dataclass(frozen=True)
class Folder:
    """A folder of Parquet files, one file a part; a mark says that it is whole.

    Readers take no file for data whose name begins with an underscore.
    """

    place: str
    schema: pa.Schema
    files: DirFileSystem

    def _names(self) -> list[str]:
        self.files.fs.invalidate_cache()
        return sorted(self.files.find(""))

    def _remove(self, *prefixes: str) -> None:
        """Remove the files with such a beginning, the mark first."""
        for name in self._names():
            if name.startswith(prefixes):
                self.files.rm(name)

    @contextmanager
    def staged(self) -> Iterator[None]:
        """Let attempts be staged, and remove their rest; a folder of other files is refused."""
        self.files.makedirs("", exist_ok=True)
        for name in self._names():
            if not _OUR_FILE.fullmatch(name):
                raise UserError(f"scoring.output: {self.place} holds {name}: name another folder.")
        try:
            yield
        finally:
            self._remove("_part-")

    @contextmanager
    def writing(self, attempt: str) -> Iterator[Write]:
        """Give the function that stages rows of an attempt."""
        from pyarrow.parquet import ParquetWriter

        name = f"_{attempt}.parquet"
        with ParquetWriter(name, self.schema, filesystem=self.files) as writer:
            # The files of a source may differ in the type of a key.
            yield lambda rows: writer.write_table(rows.cast(self.schema))

    def publish(self, attempts: Sequence[str], connection: Connection) -> None:
        """Have the files take the place of the former ones; the mark goes first and comes last."""
        self._remove(_MARK, "part-")
        for attempt in attempts:
            self.files.mv(f"_{attempt}.parquet", f"{attempt}.parquet")
        self.files.pipe_file(_MARK, b"")


@dataclass(frozen=True)
class Table:
    """A table, whose rows are replaced in one transaction; it keeps its grants and indexes."""

    place: str
    schema: pa.Schema
    url: str

    @property
    def _stage(self) -> str:
        return f"scoring_stage_{sha256_of(self.place.encode())[:12]}"

    @property
    def _columns(self) -> str:
        return ", ".join(
            f"{quoted(field.name)} {_SQL_TYPES.get(field.type, 'text')}" for field in self.schema
        )

    @contextmanager
    def staged(self) -> Iterator[None]:
        """Let attempts be staged, if they could be published, and remove their rest."""
        drop = f"DROP TABLE IF EXISTS {self._stage}"
        columns = f'".attempt" text, {self._columns}'
        with engine_for(self.url).begin() as connection:
            execute_raw(connection, drop)
            execute_raw(connection, f"CREATE UNLOGGED TABLE {self._stage} ({columns})")
            with connection.begin_nested() as trial:
                self.publish([], connection)
                trial.rollback()
        try:
            yield
        finally:
            with engine_for(self.url).begin() as connection:
                execute_raw(connection, drop)

    @contextmanager
    def writing(self, attempt: str) -> Iterator[Write]:
        """Give the function that stages rows of an attempt, by COPY."""

        def write(rows: pa.Table) -> None:
            staged = rows.add_column(0, ".attempt", pa.repeat(attempt, rows.num_rows))
            # A transaction of its own, so that no thread holds more than two connections.
            with engine_for(self.url).begin() as connection:
                copy_in(connection, self._stage, staged)

        yield write

    def publish(self, attempts: Sequence[str], connection: Connection) -> None:
        """Have the table hold the rows of some attempts and no others; others read on meanwhile."""
        target = relation(connection, self.place)
        # Writers to the table queue behind whoever waits for its lock.
        execute_raw(connection, "SET LOCAL lock_timeout TO '30s'")
        execute_raw(connection, f"CREATE TABLE IF NOT EXISTS {target} ({self._columns})")
        # Else two runs that spell its name differently could both leave their rows.
        execute_raw(connection, f"LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE")
        if attempts:
            execute_raw(connection, f"DELETE FROM {target}")  # noqa: S608  (quoted)
        columns = ", ".join(map(quoted, self.schema.names))
        names = ", ".join(map(literal, attempts)) or "NULL"
        staged = f'SELECT {columns} FROM {self._stage} WHERE ".attempt" IN ({names})'  # noqa: S608
        execute_raw(connection, f"INSERT INTO {target} ({columns}) {staged}")


Output = Folder | Table


def output_of(name: str, url: str, schema: pa.Schema) -> Output:
    """The folder, or the table of a database, that ``ScoringOptions.output`` names."""
    if location_kind(name) != "file":
        return Table(name, schema, url)
    files, folder = files_of(name)
    # The whole path, since two runs may write it differently, and workers have other folders.
    whole = normpath(folder)
    return Folder(str(files.unstrip_protocol(whole)), schema, DirFileSystem(whole, files))


def files_of(path: str) -> Any:
    """The file system of a path or URL, and the place in it; paths begin at the project."""
    return fsspec.url_to_fs(path if "://" in path else project_path() / Path(path).expanduser())
