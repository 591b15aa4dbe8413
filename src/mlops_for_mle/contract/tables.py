"""The tables of a contract, its observations and its predictions, as SQL; nothing is executed here.

Nothing is ever dropped: what can be mended by adding to a table, or by loosening it, is offered
as a change; everything else is left to its owner.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mlops_for_mle.contract.model import LONGEST_NAME, Contract, Feature

SQL_TYPES = {
    "float": "double precision",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "category": "text",
    "date": "date",
    "timestamp": "timestamp without time zone",
}
_WHOLE = ("bigint", "integer", "smallint")
_NUMBERS = ("double precision", "numeric", "real", *_WHOLE)
# The types of an existing column that hold the values of a column which we would make.
_COMPATIBLE = {
    "bigint": _WHOLE,
    "integer": _WHOLE,
    "double precision": _NUMBERS,
    "numeric": _NUMBERS,
    "text": ("text", "character varying", "character", "citext"),
    "boolean": ("boolean",),
    "date": ("date",),
    "timestamp without time zone": ("timestamp without time zone", "timestamp with time zone"),
}
_LARGEST_INTEGER = 2**31
# Every table of PostgreSQL has columns of these names.
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
PREDICTION_FACTS = (
    "source text",
    "source_id bigint",
    "row_key bigint",
    "model_version integer",
    "release text",
    "scored_at timestamp with time zone",
)
UTC_NOW = "timezone('utc', now())"
"""The clock of columns without a zone, whatever the session's zone is."""


class TableColumn(NamedTuple):
    """A column of a table as the contract needs it."""

    name: str
    type: str
    is_required: bool = False
    default: str | None = None


class ExistingColumn(NamedTuple):
    """A column of a table that is there."""

    name: str
    type: str
    is_required: bool
    has_default: bool


class TableChange(NamedTuple):
    """One statement that brings a table closer to its contract, and what it does in words."""

    statement: str
    description: str


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as a constant of SQL."""
    return "'" + value.replace("'", "''") + "'"


def sql_type(feature: Feature) -> str:
    """The column type of a feature."""
    return "bigint" if feature.has_integer_categories else SQL_TYPES[feature.type]


def target_type(contract: Contract) -> str:
    """The column type of the target: the tutorial's integer, unless a class needs more."""
    found = sql_type(contract.target.feature)
    is_small = all(abs(code) < _LARGEST_INTEGER for code in contract.target.class_codes)
    return "integer" if found == "bigint" and is_small else found


def observation_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """The columns of the contract's table; for the shipped contract exactly the tutorial's.

    Only features that may be missing may be null.
    """
    return (
        TableColumn(contract.key, "integer", is_required=True),
        TableColumn(contract.timestamp, SQL_TYPES["timestamp"], default=UTC_NOW),
        *(
            TableColumn(name, sql_type(one), is_required=not one.is_optional)
            for name, one in contract.features.items()
        ),
        TableColumn(contract.target.column, target_type(contract), is_required=True),
    )


def create_observations(contract: Contract) -> str:
    """The statement that makes the contract's table where there is none."""
    key, *others = observation_columns(contract)
    columns = [f"{quoted(key.name)} serial PRIMARY KEY", *map(_definition, others)]
    return f"CREATE TABLE IF NOT EXISTS {quoted(contract.table)} ({', '.join(columns)})"


def prediction_table(contract: Contract) -> str:
    """The name of the table of predictions for rows of the table and messages of a topic."""
    return f"{contract.name}_prediction"


def prediction_key(contract: Contract) -> str:
    """The name of the index by which a row of a source has one prediction."""
    return f"{contract.name}_predicted_key"


def create_predictions(contract: Contract) -> tuple[str, ...]:
    """The statements that make the contract's table of predictions, or add what it lacks.

    The first three columns are those of the tutorial's table. Its own programs make and write only
    these, so the others may be null: where the row came from (a table, or a part of a topic) and
    its number there, which together are never there twice; its key in the table of observations,
    which a message may not have; and what scored it when.
    """
    table = quoted(prediction_table(contract))
    prediction = f"{quoted(contract.target.response_name)} {target_type(contract)}"
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {one}" for one in PREDICTION_FACTS)
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (id serial PRIMARY KEY, timestamp timestamp, "
        f"{prediction})",
        f"ALTER TABLE {table} {added}",
        f"CREATE UNIQUE INDEX IF NOT EXISTS {quoted(prediction_key(contract))} ON {table} "
        "(source, source_id)",
    )


def find_differences(
    contract: Contract, present: Mapping[str, ExistingColumn], *, has_rows: bool
) -> tuple[list[TableChange], list[str]]:
    """Compare the columns of an existing table with what the contract needs.

    Returns:
        What can be added or loosened without losing anything; and what only its owner can decide.
    """
    changes: list[TableChange] = []
    obstacles: list[str] = []
    wanted = {one.name: one for one in observation_columns(contract)}
    for column in wanted.values():
        found = present.get(column.name)
        if found is None and column.name == contract.key:
            obstacles.append(f"the key {column.name} is missing")
        elif found is None:
            changes.append(_addition(contract.table, column, has_rows=has_rows))
        elif found.type not in _COMPATIBLE[column.type]:
            obstacles.append(
                f"column {column.name} has the type {found.type}, the contract needs {column.type}"
            )
        elif found.is_required and not column.is_required and column.name != contract.timestamp:
            changes.append(_loosening(contract, column.name, "the contract allows missing values"))
    for found in present.values():
        if found.name not in wanted and found.is_required and not found.has_default:
            reason = "the contract does not know it, so new rows have no value in it"
            changes.append(_loosening(contract, found.name, reason))
    return changes, obstacles


def _definition(column: TableColumn) -> str:
    default = f" DEFAULT {column.default}" if column.default else ""
    required = " NOT NULL" if column.is_required else ""
    return f"{quoted(column.name)} {column.type}{default}{required}"


def _addition(table: str, column: TableColumn, *, has_rows: bool) -> TableChange:
    # Rows that are there already have no value, whatever the contract says of new ones.
    definition = _definition(column._replace(is_required=column.is_required and not has_rows))
    note = ", empty in the rows that are there" if has_rows else ""
    return TableChange(
        f"ALTER TABLE {quoted(table)} ADD COLUMN {definition}",
        f"column {column.name} would be added ({column.type}{note})",
    )


def _loosening(contract: Contract, column: str, reason: str) -> TableChange:
    return TableChange(
        f"ALTER TABLE {quoted(contract.table)} ALTER COLUMN {quoted(column)} DROP NOT NULL",
        f"column {column} would no longer be NOT NULL ({reason})",
    )


def column_names(names: Sequence[str]) -> dict[str, str]:
    """The name in Postgres for each of some distinct columns: its own wherever that is possible."""
    found = {name: name for name in names if _is_allowed(name)}
    taken = {*found, *_SYSTEM_COLUMNS}
    for number, name in enumerate(names, start=1):
        if name not in found:
            printable = "".join(one if one.isprintable() else " " for one in name)
            # Bytes are what Postgres counts; a few are for a number behind the name.
            kept = " ".join(printable.split()).encode()[: LONGEST_NAME - 6]
            base = kept.decode(errors="ignore").strip() or f"column_{number}"
            found[name] = free_name((base,), taken)
            taken.add(found[name])
    return found


def _is_allowed(name: str) -> bool:
    # Blanks alone are legal in Postgres, but nobody could type or see them.
    is_visible = name.isprintable() and bool(name.strip())
    return is_visible and len(name.encode()) <= LONGEST_NAME and name not in _SYSTEM_COLUMNS


def free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    """The first of some names that is free, else the first one with a number."""
    more = (f"{preferred[0]}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(preferred, more) if one not in taken)
