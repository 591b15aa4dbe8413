"""The project's tables and those of its contracts, made and brought up to date."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateColumn

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for, execute_raw, lock, quoted
from mlops_for_mle.database.tables import metadata, observations, prediction_table, predictions_of
from mlops_for_mle.errors import UserError

# Kept here so that an up-to-date database is recognised without importing Alembic (0.3 s).
HEAD_REVISION = "0001"

_MIGRATIONS = Path(__file__).parent / "migrations"
# One that does not double percent signs.
_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def prepare(url: str, contract: Contract) -> None:
    """Make sure that every table which the pipelines use is there."""
    upgrade(url)
    ensure_observations(url, contract)


def upgrade(url: str) -> None:
    """Bring the project's own tables to the newest revision, all or nothing."""
    with _schema_lock(url) as connection:
        if _revision(connection) == HEAD_REVISION:
            return
        from alembic import command
        from alembic.config import Config

        configuration = Config(attributes={"connection": connection})
        configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        configuration.set_main_option("path_separator", "os")
        command.upgrade(configuration, "head")


def require_tables(url: str) -> None:
    """Raise a ``UserError`` where the project's tables are not there; changes nothing."""
    with engine_for(url).connect() as connection:
        if _revision(connection) != HEAD_REVISION:
            raise UserError(
                "The project's tables are not there or of another revision: run `kedro run` or "
                "`kedro db upgrade` first."
            )


def ensure_observations(url: str, contract: Contract, *, may_change: bool = False) -> None:
    """Make the contract's table where it is missing; compare its columns where it is there.

    Columns are added or loosened only where they ``may_change``.
    """
    if contract.table in {*metadata.tables, "alembic_version", prediction_table(contract)}:
        raise UserError(
            f"contract.table: {contract.table} is a table of the project's own; name another, such "
            f"as {contract.name}_data."
        )
    with _schema_lock(url) as connection:
        table = observations(contract)
        if not sa.inspect(connection).has_table(contract.table):
            table.create(connection)
            return
        changes, obstacles = _differences(connection, table)
        if obstacles or (changes and not may_change):
            remedy = "change the table yourself"
            if not obstacles:
                remedy = "make these changes with `kedro db upgrade --yes` (and the same --env)"
            raise UserError(
                f"Table {contract.table} does not fit contract {contract.name}: "
                f"{'; '.join(obstacles or changes)}. Nothing was changed: correct the contract, "
                f"{remedy}, or name another contract.table."
            )
        for statement in changes:
            execute_raw(connection, statement)


def ensure_predictions(url: str, contract: Contract) -> None:
    """Make the contract's table of predictions, or change one made by others so that it serves."""
    table = predictions_of(contract)
    (index,) = table.indexes
    with _schema_lock(url) as connection:
        table.create(connection, checkfirst=True)
        # Where nothing differs, a start need not wait for those who read the table.
        for statement in _differences(connection, table)[0]:
            execute_raw(connection, statement)
        index.create(connection, checkfirst=True)


def _differences(connection: Connection, table: sa.Table) -> tuple[list[str], list[str]]:
    """How a table that is there differs from what the contract needs.

    Gives the statements that add or loosen columns (nothing is ever dropped), and the differences
    that only the table's owner can settle.
    """
    alter = f"ALTER TABLE {quoted(table.name)}"
    columns = sa.inspect(connection).get_columns(table.name)
    current_columns = {column["name"]: column for column in columns}
    changes, obstacles = list[str](), list[str]()
    for column in table.columns:
        name, needed, current = column.name, column.type, current_columns.get(column.name)
        if current is None and column.primary_key:
            obstacles.append(f"the key {name} is missing")
        elif current is None:
            # Rows that are there already have no value, whatever the contract says of new ones.
            column.nullable = True
            changes.append(f"{alter} ADD COLUMN {CreateColumn(column).compile(dialect=_DIALECT)}")
        elif not _holds(current["type"], needed):
            held = current["type"]
            obstacles.append(f"column {name} has the type {held}, the contract needs {needed}")
        elif isinstance(current["type"], sa.Integer) and not isinstance(needed, sa.Integer):
            # PostgreSQL would round fractions, or refuse them.
            wide = needed.compile(_DIALECT)
            changes.append(f"{alter} ALTER COLUMN {quoted(name)} TYPE {wide}")
    for name, current in current_columns.items():
        is_filled = current["default"] is not None or "identity" in current or "computed" in current
        wanted = table.columns.get(name)
        if wanted is not None:
            is_filled = not wanted.nullable or wanted.server_default is not None
        if not (is_filled or current["nullable"]):
            changes.append(f"{alter} ALTER COLUMN {quoted(name)} DROP NOT NULL")
    return changes, obstacles


def _holds(current: Any, needed: Any) -> bool:
    """Whether a column of the ``current`` type can hold values of the ``needed`` one."""
    if isinstance(needed, sa.Numeric | sa.Float):
        return isinstance(current, sa.Numeric | sa.Float | sa.Integer)
    types = (sa.Integer, sa.String, sa.Boolean, sa.Date, sa.DateTime)
    return any(isinstance(needed, type_) and isinstance(current, type_) for type_ in types)


def mlflow_store_url(url: str) -> str:
    """The URL of MLflow's backend store: the database ``mlflow`` beside the project's own.

    Made and upgraded in one process at a time, because two MLflow clients on an empty store collide
    and a newer MLflow refuses an older store.
    """
    store = make_url(url).set(database="mlflow").render_as_string(hide_password=False)
    try:
        with _schema_lock(url) as connection:
            count = text("SELECT count(*) FROM pg_database WHERE datname = 'mlflow'")
            if not connection.scalar(count):
                with engine_for(url).connect() as autocommit:
                    autocommit.execution_options(isolation_level="AUTOCOMMIT")
                    autocommit.exec_driver_sql("CREATE DATABASE mlflow")
        with _schema_lock(store) as connection:
            if _is_behind_mlflow(connection):
                from mlflow.store.db.utils import _initialize_tables

                logging.getLogger("alembic").setLevel(logging.WARNING)
                _initialize_tables(engine_for(store))
    except sa.exc.ProgrammingError as error:
        raise UserError(
            f"MLflow needs a database 'mlflow' of this login beside {make_url(url).database!r} "
            f"({str(error.orig).strip()}): create it, or set MLFLOW_TRACKING_URI to a server."
        ) from error
    return store


@contextmanager
def _schema_lock(url: str) -> Iterator[Connection]:
    """A transaction during which nobody else makes or changes tables."""
    with engine_for(url).begin() as connection:
        lock(connection, "schema of mlops-for-mle")
        yield connection


def _revision(connection: Connection) -> str | None:
    # Not by to_regclass, which may answer from a cache older than the wait for the lock.
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _is_behind_mlflow(connection: Connection) -> bool:
    """Whether the store has no tables, or the installed MLflow has revisions after its own."""
    revision = _revision(connection)
    # Read as text: importing MLflow to ask it takes more than a second.
    versions = Path(str(distribution("mlflow").locate_file("mlflow/store/db_migrations/versions")))
    return revision is None or any(
        f'down_revision = "{revision}"' in path.read_text("utf-8") for path in versions.glob("*.py")
    )
