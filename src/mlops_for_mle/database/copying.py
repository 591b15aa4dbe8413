"""Rows out of Postgres and into it by COPY."""

import io
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import psycopg2
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from mlops_for_mle.database.engine import quoted

if TYPE_CHECKING:
    import pyarrow as pa

# The server parses the query when it opens a cursor for it, and takes only one statement that gives
# rows, so nothing in it can end the transaction. Synchronized and parallel scans would give the
# same rows in another order.
_PREPARE = """
SET LOCAL timezone TO 'UTC';
SET LOCAL synchronize_seqscans TO off;
SET LOCAL max_parallel_workers_per_gather TO 0;
SELECT set_config('mlops.query', %s, true);
DO $$ DECLARE rows refcursor := 'mlops_rows';
BEGIN OPEN rows FOR EXECUTE current_setting('mlops.query'); END $$;
FETCH 0 FROM mlops_rows
"""
_PRIMARY_KEY = """
SELECT attname FROM pg_index
CROSS JOIN unnest(indkey::int2[]) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = number
WHERE indrelid = to_regclass(%s) AND indisprimary AND place <= indnkeyatts ORDER BY place
"""
_BLOCK_BYTES = 4 * 2**20


def relation(connection: Connection, name: str) -> str:
    """A table or view as SQL names it.

    Its first dot ends the name of a schema, unless a table has the whole name.
    """
    is_whole = connection.scalar(text("SELECT to_regclass(:name)"), {"name": quoted(name)})
    return quoted(name) if is_whole else ".".join(map(quoted, name.split(".", 1)))


def primary_key(connection: Connection, table: str) -> Sequence[str]:
    """The columns of a table's primary key; none where it has no such key."""
    return connection.exec_driver_sql(_PRIMARY_KEY, (table,)).scalars().all()


def begin_read_only(connection: Connection, query: str, snapshot: str | None = None) -> Any:
    """Begin a transaction that cannot write, and have the server parse one SELECT in it.

    With a ``snapshot``, it sees the same rows as the transaction that has exported it. Gives the
    columns, as psycopg2 describes them.
    """
    # What was asked on it before has begun a transaction, too.
    connection.rollback()
    session: Any = connection.connection
    with session.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
            # Whoever has to wait here waits behind a TRUNCATE, for example, that waits for the
            # transaction with the snapshot, which waits for this one: none would ever go on.
            cursor.execute("SET LOCAL lock_timeout TO '10s'")
        cursor.execute(_PREPARE, (query,))
        return cursor.description


def arrow_type(object_id: int) -> "pa.DataType":
    """The type in which to copy values of one of Postgres's own types, else the text it writes."""
    import pyarrow as pa

    types = {16: pa.bool_(), **dict.fromkeys((20, 21, 23), pa.int64())}
    types |= dict.fromkeys((700, 701), pa.float64())
    return types.get(object_id, pa.string())


def copy_out(
    connection: Connection, select: str, types: "Sequence[pa.DataType]"
) -> "Iterator[pa.RecordBatch]":
    """The rows of a SELECT, some megabytes at a time; columns are named by their position.

    It is the query, or one around it, that ``begin_read_only`` was given on the same connection.
    """
    import pyarrow as pa
    from pyarrow import csv

    column_types = {str(position): type_ for position, type_ in enumerate(types)}
    with TemporaryFile() as file:
        _copy(connection, f"COPY ({select}\n) TO STDOUT WITH (FORMAT csv)", file)
        size, block, row_count = file.tell(), _BLOCK_BYTES, 0
        parsing = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        # An empty text is quoted, a null is not.
        converting = csv.ConvertOptions(
            column_types=column_types,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        while size:
            file.seek(0)
            reading = csv.ReadOptions(
                column_names=list(column_types), block_size=block, skip_rows_after_names=row_count
            )
            try:
                for batch in csv.open_csv(file, reading, parsing, converting):
                    row_count += len(batch)
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
        elif types.is_string(column.type) or types.is_large_string(column.type):
            # PostgreSQL holds no NUL.
            columns[name] = pc.replace_substring(column, "\x00", "�")
    content = io.BytesIO()
    csv.write_csv(pa.table(columns), content, csv.WriteOptions(include_header=False))
    content.seek(0)
    listed = ", ".join(map(quoted, columns))
    statement = f"COPY {table} ({listed}) FROM STDIN WITH (FORMAT csv)"
    _copy(connection, statement, content)


def _copy(connection: Connection, statement: str, file: IO[bytes]) -> None:
    """Have a COPY read or write a file; a lost connection is told as such."""
    session: Any = connection.connection
    try:
        with session.cursor() as cursor:
            cursor.copy_expert(statement, file)
    except psycopg2.DatabaseError as error:
        reason = error
        # In the middle of COPY TO, libpq says nothing of it.
        if session.closed and not isinstance(error, psycopg2.OperationalError):
            reason = psycopg2.OperationalError(f"the connection was lost: {error}")
        if not isinstance(reason, psycopg2.OperationalError):
            raise
        # Otherwise the end of the transaction would fail too, and hide why.
        connection.invalidate()
        raise OperationalError(statement, None, reason) from error
