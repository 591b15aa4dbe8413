"""The tables of a contract, its observations and its predictions, as SQL; nothing is executed here.

Nothing is ever dropped: what can be mended by adding to a table, or by loosening it, is offered
as a change; everything else is left to its owner.
"""

from collections.abc import Mapping
from typing import NamedTuple

from mlops_for_mle.contract.model import Contract, Feature

SQL_TYPES = {
    "float": "double precision",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "category": "text",
    "date": "date",
    "timestamp": "timestamp without time zone",
}
_WHOLE = frozenset({"bigint", "integer", "smallint"})
_NUMBERS = _WHOLE | {"double precision", "numeric", "real"}
# The types of an existing column that hold the values of a column which we would make.
_COMPATIBLE = {
    **dict.fromkeys(("bigint", "integer"), _WHOLE),
    **dict.fromkeys(("double precision", "numeric"), _NUMBERS),
    "text": {"text", "character varying", "character", "citext"},
    SQL_TYPES["timestamp"]: {SQL_TYPES["timestamp"], "timestamp with time zone"},
}
_LARGEST_INTEGER = 2**31
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
    """A column of a table, as the contract needs it or as it is there."""

    name: str
    type: str
    is_required: bool = False
    has_default: bool = False

    def definition(self) -> str:
        """The column as SQL; the one default that we give is the clock."""
        default = f" DEFAULT {UTC_NOW}" if self.has_default else ""
        return f"{quoted(self.name)} {self.type}{default}{' NOT NULL' if self.is_required else ''}"


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
        TableColumn(contract.timestamp, SQL_TYPES["timestamp"], has_default=True),
        *(
            TableColumn(name, sql_type(one), is_required=not one.is_optional)
            for name, one in contract.columns.items()
            if name != contract.target.column
        ),
        TableColumn(contract.target.column, target_type(contract), is_required=True),
    )


def create_observations(contract: Contract) -> str:
    """The statement that makes the contract's table where there is none."""
    key, *others = observation_columns(contract)
    columns = [f"{quoted(key.name)} serial PRIMARY KEY", *(one.definition() for one in others)]
    return f"CREATE TABLE IF NOT EXISTS {quoted(contract.table)} ({', '.join(columns)})"


def prediction_table(contract: Contract) -> str:
    """The name of the table of predictions for rows of the table and messages of a topic."""
    return f"{contract.name}_prediction"


def prediction_key(contract: Contract) -> str:
    """The name of the index by which a row of a source has one prediction."""
    return f"{contract.name}_predicted_key"


def create_predictions(contract: Contract) -> tuple[str, ...]:
    """The statements that make the contract's table of predictions, or add what it lacks.

    The tutorial's own programs make and write only the first three columns, so the others may be
    null: where the row came from (a table, or a part of a topic) and its number there, which
    together are never there twice; its key in the table of observations; and what scored it when.
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
    contract: Contract, present: Mapping[str, TableColumn]
) -> tuple[dict[str, str], list[str]]:
    """Compare the columns of an existing table with what the contract needs.

    Returns:
        The statements that add or loosen columns without losing anything, each with what it does
        in words; and what only the table's owner can decide.
    """
    table = f"ALTER TABLE {quoted(contract.table)}"
    changes: dict[str, str] = {}
    obstacles: list[str] = []
    wanted = {one.name: one for one in observation_columns(contract)}
    for name, column in wanted.items():
        found = present.get(name)
        if found is None and name == contract.key:
            obstacles.append(f"the key {name} is missing")
        elif found is None:
            # Rows that are there already have no value, whatever the contract says of new ones.
            added = column._replace(is_required=False).definition()
            told = f"column {name} would be added ({column.type}, empty in rows that are there)"
            changes[f"{table} ADD COLUMN {added}"] = told
        elif found.type not in _COMPATIBLE.get(column.type, {column.type}):
            obstacles.append(
                f"column {name} has the type {found.type}, the contract needs {column.type}"
            )
    for name, found in present.items():
        reason = ""
        if name not in wanted and not found.has_default:
            reason = "the contract does not know it, so new rows have no value in it"
        elif name in wanted and name != contract.timestamp and not wanted[name].is_required:
            reason = "the contract allows missing values"
        if found.is_required and reason:
            told = f"column {name} would no longer be NOT NULL ({reason})"
            changes[f"{table} ALTER COLUMN {quoted(name)} DROP NOT NULL"] = told
    return changes, obstacles
