"""Rows to be scored, however many: Parquet files, a table or a query, in parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa

from mlops_for_mle.contract.tables import literal, quoted
from mlops_for_mle.database.copying import begin_reading, copy_rows, relation
from mlops_for_mle.database.engine import engine_for, execute_plainly
from mlops_for_mle.pipelines.scoring.nodes import Part
from mlops_for_mle.pipelines.scoring.options import place_of

_BUFFER_BYTES = 2**20  # of each column
# By the object ids of Postgres's own types. Numbers and times of the other types are read as text,
# since they may be larger than any type of a file.
_TYPES = {16: pa.bool_(), **dict.fromkeys((20, 21, 23), pa.int64())}
_TYPES |= dict.fromkeys((700, 701), pa.float64())
_PRIMARY_KEY = """
SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
WHERE indrelid = to_regclass(%s) AND indisprimary AND indnkeyatts = 1
"""
# The number and the key of each row that begins a part.
_STARTS = """
SELECT number, start::text FROM (
    SELECT {key} AS start, row_number() OVER (ORDER BY {key}) AS number
    FROM ({query}) AS source_rows
) AS numbered WHERE (number - 1) % {size} = 0 ORDER BY number
"""


@dataclass(frozen=True)
class ParquetRows:
    """A Parquet file or a folder of them, here or at any URL that fsspec opens; by row groups."""

    name: str
    schema: pa.Schema
    groups: tuple[Any, ...]

    @contextmanager
    def parts(self, size: int) -> Iterator[list[Part]]:
        """The row groups."""
        parts, first = [], 1
        for group in self.groups:
            parts.append(Part(first, group))
            first += group.row_groups[0].num_rows
        yield parts or [Part(1, None)]

    def read(self, part: Part, columns: Sequence[str], size: int) -> Iterator[pa.Table]:
        """Some columns of a row group, at most so many rows at a time."""
        from pyarrow.parquet import ParquetFile

        if part.piece is None:
            return
        # Else it would hold all of the row group.
        options = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
        with part.piece.open() as opened:
            file, groups = ParquetFile(opened, **options), [part.piece.row_groups[0].id]
            for batch in file.iter_batches(size, row_groups=groups, columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(list(columns))


@dataclass(frozen=True)
class DatabaseRows:
    """The rows of a table or query in Postgres, all of one moment.

    A part of a table is a range of its primary key; without a key of one column, and for a query,
    there is one part.
    """

    url: str
    name: str
    query: str
    schema: pa.Schema
    key: str | None

    @contextmanager
    def parts(self, size: int) -> Iterator[list[Part]]:
        """Divide the rows; as long as the context lasts, all parts are of the same moment."""
        with engine_for(self.url).connect() as connection:
            begin_reading(connection, self.query)
            # It waits for the parts, however long that takes.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout TO 0")
            snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar()
            starts: Sequence[Any] = []
            if self.key is not None:
                query = _STARTS.format(key=quoted(self.key), query=self.query, size=size)
                starts = execute_plainly(connection, query).all()
            starts = starts or [(1, None)]
            ends = [start for _, start in starts[1:]] + [None]
            yield [
                Part(first, (snapshot, start, end))
                for (first, start), end in zip(starts, ends, strict=True)
            ]

    def read(self, part: Part, columns: Sequence[str], size: int) -> Iterator[pa.Table]:
        """Some columns of a part, in the order of the key."""
        snapshot, start, end = part.piece
        wanted = ", ".join(map(quoted, columns))
        select = f"SELECT {wanted} FROM ({self.query}\n) AS source_rows"  # noqa: S608  (quoted)
        if start is not None:
            key = quoted(str(self.key))
            until = "" if end is None else f" AND {key} < {literal(end)}"
            select += f" WHERE {key} >= {literal(start)}{until} ORDER BY {key}"
        with engine_for(self.url).connect() as connection:
            begin_reading(connection, self.query, snapshot)
            types = [self.schema.field(name).type for name in columns]
            for batch in copy_rows(connection, select, types):
                yield pa.Table.from_batches([batch]).rename_columns(list(columns))


def parquet_rows(path: str) -> ParquetRows:
    """Look at the columns of files."""
    from pyarrow.dataset import dataset

    file_system, place = fsspec.url_to_fs(path)
    found = dataset(place, format="parquet", filesystem=file_system)
    groups = (group for file in found.get_fragments() for group in file.split_by_row_group())
    return ParquetRows(path, found.schema.remove_metadata(), tuple(groups))


def database_rows(url: str, source: str) -> DatabaseRows:
    """Look at the columns of a table or query."""
    with engine_for(url).connect() as connection:
        key, name, query = None, "the query", source.strip().removesuffix(";")
        if place_of(source) == "table":
            place, name = relation(connection, source), f"table {source}"
            query = f"SELECT * FROM {place}"  # noqa: S608  (quoted)
            key = connection.exec_driver_sql(_PRIMARY_KEY, (place,)).scalar()
            connection.rollback()
        columns = begin_reading(connection, query)
    types = [(column.name, _TYPES.get(column.type_code, pa.string())) for column in columns]
    return DatabaseRows(url, name, query, pa.schema(types), key)
