"""Rows to be scored, however many: Parquet files, a table or a query, in parts."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import accumulate
from typing import Any

import fsspec
import pyarrow as pa

from mlops_for_mle.contract.sql import literal, quoted
from mlops_for_mle.database.copying import begin_reading, copy_rows, relation
from mlops_for_mle.database.engine import engine_for, execute_plainly
from mlops_for_mle.pipelines.scoring.nodes import Part, Source
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
# Of each part the number of its first row, and which keys it has.
_PARTS = """
SELECT number, format(
    ' WHERE %1$I >= %2$L AND (%3$L IS NULL OR %1$I < %3$L) ORDER BY %1$I',
    {name}, start, lead(start) OVER (ORDER BY number)
) FROM (
    SELECT {key} AS start, row_number() OVER (ORDER BY {key}) AS number
    FROM ({query}) AS source_rows
) AS numbered WHERE (number - 1) % {size} = 0 ORDER BY number
"""


def parquet_source(path: str) -> Source:
    """A Parquet file or a folder of them, here or at any URL that fsspec opens, by row groups."""
    from pyarrow.dataset import dataset

    file_system, place = fsspec.url_to_fs(path)
    found = dataset(place, format="parquet", filesystem=file_system)
    groups = [one for file in found.get_fragments() for one in file.split_by_row_group() or [file]]
    counts = (sum(inner.num_rows for inner in one.row_groups) for one in groups)
    firsts = [*accumulate(counts, initial=1)][:-1]

    def parts(columns: list[str], size: int) -> AbstractContextManager[list[Part]]:
        reads = (partial(_read_group, one, columns, size) for one in groups)
        return nullcontext([*map(Part, firsts, reads)])

    return Source(found.schema.remove_metadata(), parts)


def _read_group(group: Any, columns: list[str], size: int) -> Iterator[pa.Table]:
    from pyarrow.parquet import ParquetFile

    with group.open() as opened:
        # Else it would hold all of the row group.
        file = ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        numbers = [one.id for one in group.row_groups]
        for batch in file.iter_batches(size, row_groups=numbers, columns=columns):
            yield pa.Table.from_batches([batch]).select(columns)


def database_source(url: str, source: str) -> Source:
    """A table or query in Postgres, all of one moment.

    A part of a table is a range of its primary key; without a key of one column, and for a query,
    there is one part.
    """
    with engine_for(url).connect() as connection:
        key, query = None, source.strip().removesuffix(";")
        if place_of(source) == "table":
            place = relation(connection, source)
            query = f"SELECT * FROM {place}"  # noqa: S608  (quoted)
            key = connection.exec_driver_sql(_PRIMARY_KEY, (place,)).scalar()
            connection.rollback()
        columns = begin_reading(connection, query)
    schema = pa.schema([(one.name, _TYPES.get(one.type_code, pa.string())) for one in columns])

    @contextmanager
    def parts(columns: list[str], size: int) -> Iterator[list[Part]]:
        with engine_for(url).connect() as connection:
            begin_reading(connection, query)
            # It waits for the parts, however long that takes.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout TO 0")
            snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
            ranges: Sequence[Any] = []
            if key is not None:
                names = {"key": quoted(key), "name": literal(key)}
                divided = _PARTS.format(query=query, size=size, **names)
                ranges = execute_plainly(connection, divided).all()
            fields = [schema.field(name) for name in columns]
            read = partial(_read_range, url, query, fields, snapshot)
            yield [Part(first, partial(read, where)) for first, where in ranges or [(1, "")]]

    return Source(schema, parts)


def _read_range(
    url: str, query: str, fields: list[pa.Field], snapshot: str, where: str
) -> Iterator[pa.Table]:
    wanted = ", ".join(quoted(one.name) for one in fields)
    select = f"SELECT {wanted} FROM ({query}\n) AS source_rows{where}"  # noqa: S608  (quoted)
    with engine_for(url).connect() as connection:
        begin_reading(connection, query, snapshot)
        for batch in copy_rows(connection, select, [one.type for one in fields]):
            yield pa.Table.from_batches([batch]).rename_columns([one.name for one in fields])
