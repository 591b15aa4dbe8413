"""Makes the tables that scoring needs, when it is first used."""

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.schema import CreateColumn

from mlops_for_mle import database
from mlops_for_mle.contract import Contract
from mlops_for_mle.contract_tables import prediction_table
from mlops_for_mle.database.engine import lock
from mlops_for_mle.errors import UserError

_TABLE_LOCK = "prediction tables"


def prepare_scoring(url: str, contract: Contract) -> None:
    """Make sure that every table is there which scoring with a contract uses.

    Raises:
        DatabaseUnavailableError: The server does not answer.
        UserError: A table is there that does not fit.
    """
    database.prepare(url, contract)
    ensure_prediction_table(url, contract)


def ensure_prediction_table(url: str, contract: Contract) -> bool:
    """Make the contract's table of predictions, or add what one made by others lacks.

    Returns:
        Whether anything was changed.

    Raises:
        UserError: A table of this name is there that does not fit.
    """
    wanted = prediction_table(contract)
    with database.reachable(url) as engine, engine.connect() as connection:
        if _is_complete(connection, wanted):
            return False
        connection.rollback()
        lock(connection, _TABLE_LOCK)
        if _is_complete(connection, wanted):
            return False
        _complete(connection, wanted)
        connection.commit()
    return True


def _is_complete(connection: Connection, wanted: Table) -> bool:
    """Whether the table has every column and index.

    Raises:
        UserError: A column is there with another type.
    """
    found = inspect(connection)
    is_there = found.has_table(wanted.name)
    columns = found.get_columns(wanted.name) if is_there else []
    present = {one["name"]: one["type"].compile(connection.dialect) for one in columns}
    indexes = {one["name"] for one in found.get_indexes(wanted.name)} if is_there else set()
    for column in wanted.columns:
        expected = column.type.compile(connection.dialect)
        actual = present.get(column.name, expected)
        if actual != expected:
            raise UserError(
                f"Table {wanted.name}: column {column.name} is {actual} where predictions of this "
                f"contract need {expected}: rename that table, so that a new one is made."
            )
    return set(wanted.columns.keys()) <= set(present) and indexes >= {
        index.name for index in wanted.indexes
    }


def _complete(connection: Connection, wanted: Table) -> None:
    wanted.create(connection, checkfirst=True)
    present = {one["name"] for one in inspect(connection).get_columns(wanted.name)}
    name = connection.dialect.identifier_preparer.format_table(wanted)
    for column in wanted.columns:
        if column.name not in present:
            added = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {added}")
    for index in wanted.indexes:
        index.create(connection, checkfirst=True)
