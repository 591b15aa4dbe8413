"""Rows out of Postgres and into it by COPY; a SELECT is read where it can neither write nor end.

That is a transaction of its own, in which the server has looked at it.
"""

import io
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import psycopg2
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from mlops_for_mle.database.engine import quoted

if TYPE_CHECKING:
    import pyarrow as pa

# The server itself parses the query when it opens a cursor for it, and takes one statement that
# gives rows: so nothing in it can end the transaction. Scans that share their way, or that several
# workers do, would give the same rows in another order.
_PREPARE = """
SET LOCAL timezone TO 'UTC';
SET LOCAL synchronize_seqscans TO off;
SET LOCAL max_parallel_workers_per_gather TO 0;
SELECT set_config('mlops.query', %s, true);
DO $$ DECLARE rows refcursor := 'mlops_rows';
BEGIN OPEN rows FOR EXECUTE current_setting('mlops.query'); END $$;
FETCH 0 FROM mlops_rows
"""
_BLOCK_BYTES = 4 * 2**20


def relation(connection: Connection, name: str) -> str:
    """A table or view as SQL names it.

    A dot stands between schema and table, unless one of them has a dot in its name.
    """
    dots = [place for place, letter in enumerate(name) if letter == "."]
    ways = [quoted(name), *(f"{quoted(name[:dot])}.{quoted(name[dot + 1 :])}" for dot in dots)]
    is_there = text("SELECT to_regclass(:name) IS NOT NULL")
    found = (one for one in ways if connection.scalar(is_there, {"name": one}))
    return next(found, ways[min(1, len(dots))])


def begin_reading(connection: Connection, query: str, snapshot: str | None = None) -> Any:
    """Begin a transaction that cannot write, and have the server look at one SELECT in it.

    It sees the same rows as another one that has exported the ``snapshot``. Gives the columns, as
    psycopg2 describes them.
    """
    session: Any = connection.connection
    with session.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
        cursor.execute(_PREPARE, (query,))
        return cursor.description


def copy_rows(
    connection: Connection, select: str, types: "Sequence[pa.DataType]"
) -> "Iterator[pa.RecordBatch]":
    """The rows of a SELECT, some megabytes at a time; columns are named by their position.

    It is built around the query that ``begin_reading`` has looked at on the same connection.
    """
    import pyarrow as pa
    from pyarrow import csv

    kinds = {str(position): kind for position, kind in enumerate(types)}
    session: Any = connection.connection
    with session.cursor() as cursor, TemporaryFile() as file:
        cursor.copy_expert(f"COPY ({select}\n) TO STDOUT WITH (FORMAT csv)", file)
        size, block, given = file.tell(), _BLOCK_BYTES, 0
        parsing = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        # An empty text is quoted, a null is not.
        converting = csv.ConvertOptions(
            column_types=kinds,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        while size:
            file.seek(0)
            reading = csv.ReadOptions(
                column_names=list(kinds), block_size=block, skip_rows_after_names=given
            )
            try:
                for batch in csv.open_csv(file, reading, parsing, converting):
                    given += len(batch)
                    yield batch
            except pa.ArrowInvalid:
                # A row that is longer than a block.
                if block > size:
                    raise
                block *= 8
            else:
                return


def copy_in(connection: Connection, table: str, rows: "pa.Table") -> None:
    """Add rows to a table, as SQL names it, by the names of their columns."""
    import pyarrow as pa
    from pyarrow import compute as pc
    from pyarrow import csv, types

    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for name, column in columns.items():
        if types.is_list(column.type):
            joined = pc.binary_join(column.cast(pa.list_(pa.string())), ",")
            columns[name] = pc.binary_join_element_wise("{", joined, "}", "")
        elif types.is_string(column.type):
            # PostgreSQL holds no NUL.
            columns[name] = pc.replace_substring(column, "\x00", "�")
    content = io.BytesIO()
    csv.write_csv(pa.table(columns), content, csv.WriteOptions(include_header=False))
    content.seek(0)
    listed = ", ".join(map(quoted, columns))
    statement = f"COPY {table} ({listed}) FROM STDIN WITH (FORMAT csv)"
    session: Any = connection.connection
    try:
        with session.cursor() as cursor:
            cursor.copy_expert(statement, content)
    except psycopg2.OperationalError as error:
        # Otherwise the end of the transaction would fail too, and hide why.
        connection.invalidate()
        raise OperationalError(statement, None, error) from error
