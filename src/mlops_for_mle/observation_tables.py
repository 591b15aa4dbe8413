"""Makes a contract's table of observations, and finds out how an existing one differs from it.

Nothing is ever dropped: what can be mended by adding to a table, or by loosening it, is offered
as a change; everything else is left to its owner.
"""

import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from sqlalchemy import Column, Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateColumn

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract_tables import observation_table

_WHOLE = ("bigint", "integer", "smallint")
_NUMBERS = ("double precision", "numeric", "real", *_WHOLE)
_TEXT = ("text", "character varying", "character", "citext")
_TIMES = ("timestamp without time zone", "timestamp with time zone")
# The types of an existing column that hold the values of a column which we would make.
_COMPATIBLE = {
    "BIGINT": _WHOLE,
    "INTEGER": _WHOLE,
    "DOUBLE PRECISION": _NUMBERS,
    "NUMERIC": _NUMBERS,
    "TEXT": _TEXT,
    "BOOLEAN": ("boolean",),
    "DATE": ("date",),
    "TIMESTAMP WITHOUT TIME ZONE": _TIMES,
}

_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, a.attnotnull AS is_required,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS has_default
FROM pg_attribute a
WHERE a.attrelid = to_regclass(quote_ident(:table)) AND a.attnum > 0 AND NOT a.attisdropped
"""


class TableChange(NamedTuple):
    """One statement that brings a table closer to its contract, and what it does in words."""

    statement: str
    description: str


class TableDifferences(NamedTuple):
    """How a table differs from what its contract needs.

    Attributes:
        changes: What can be added or loosened without losing anything.
        obstacles: What only the table's owner can decide.
    """

    changes: tuple[TableChange, ...]
    obstacles: tuple[str, ...]


class _ExistingColumn(NamedTuple):
    name: str
    type: str
    is_required: bool
    has_default: bool


def find_differences(connection: Connection, contract: Contract) -> TableDifferences | None:
    """Compare the contract's table with what the contract needs; None where there is no table."""
    rows = connection.execute(text(_COLUMNS), {"table": contract.table})
    present = {row.name: _ExistingColumn(*row) for row in rows}
    if not present:
        connection.rollback()
        return None
    has_rows = _has_rows(connection, contract.table)
    connection.rollback()
    changes: list[TableChange] = []
    obstacles: list[str] = []
    wanted = observation_table(contract).columns
    for column in wanted:
        found = present.get(column.name)
        if found is None:
            if column.name == contract.key:
                obstacles.append(f"the key {column.name} is missing")
            else:
                change = _addition(contract.table, column, has_rows)
                left = [one for one in present.values() if one.name not in wanted]
                hint = _renaming(contract.table, column, left)
                changes.append(change._replace(description=change.description + hint))
        elif found.type not in _COMPATIBLE[_type_of(column)]:
            obstacles.append(
                f"column {column.name} has the type {found.type}, the contract needs "
                f"{_type_of(column).lower()}"
            )
        elif found.is_required and column.nullable and column.name != contract.timestamp:
            changes.append(
                _loosening(contract.table, column.name, "the contract allows missing values")
            )
    for found in present.values():
        if found.name not in wanted and found.is_required and not found.has_default:
            reason = "the contract does not know it, so new rows have no value in it"
            changes.append(_loosening(contract.table, found.name, reason))
    return TableDifferences(tuple(changes), tuple(obstacles))


def apply_changes(connection: Connection, changes: tuple[TableChange, ...]) -> None:
    """Carry changes out, all or none."""
    for change in changes:
        execute_plainly(connection, change.statement)
    connection.commit()


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def execute_plainly(connection: Connection, statement: str) -> None:
    """Execute a statement as it stands: names in it may hold percent signs and colons."""
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _addition(table: str, column: "Column[object]", has_rows: bool) -> TableChange:
    # Rows that are there already have no value, whatever the contract says of new ones.
    made: Column[object] = Column(
        column.name,
        column.type,
        nullable=column.nullable or has_rows,
        server_default=column.server_default.arg if column.server_default is not None else None,  # type: ignore[attr-defined]
    )
    definition = str(CreateColumn(made).compile(dialect=_dialect()))
    note = ", empty in the rows that are there" if has_rows else ""
    return TableChange(
        f"ALTER TABLE {quoted(table)} ADD COLUMN {definition}",
        f"column {column.name} would be added ({_type_of(column).lower()}{note})",
    )


def _renaming(table: str, column: "Column[object]", left: Sequence[_ExistingColumn]) -> str:
    """What to do where the column may be one of those that the contract no longer knows."""
    fitting = [one.name for one in left if one.type in _COMPATIBLE[_type_of(column)]]
    if not fitting:
        return ""
    (alike,) = get_close_matches(column.name, fitting, n=1, cutoff=0)
    names = f"{quoted(alike)} TO {quoted(column.name)}"
    statement = shlex.quote(f"ALTER TABLE {quoted(table)} RENAME COLUMN {names}")
    return f"; if it is {alike} under a new name, rename that first: `kedro db psql -c {statement}`"


def _loosening(table: str, column: str, reason: str) -> TableChange:
    return TableChange(
        f"ALTER TABLE {quoted(table)} ALTER COLUMN {quoted(column)} DROP NOT NULL",
        f"column {column} would no longer be NOT NULL ({reason})",
    )


def _type_of(column: "Column[object]") -> str:
    return str(column.type.compile(dialect=_dialect()))


def _dialect() -> postgresql.dialect:  # type: ignore[valid-type]
    return postgresql.dialect()  # type: ignore[no-untyped-call]


def _has_rows(connection: Connection, table: str) -> bool:
    found = connection.exec_driver_sql(
        f"SELECT EXISTS (SELECT 1 FROM {quoted(table)})",  # noqa: S608  (an identifier, quoted)
        execution_options={"no_parameters": True},
    )
    return bool(found.scalar())
