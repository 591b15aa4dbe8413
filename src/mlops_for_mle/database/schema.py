"""The project's tables and those of its contracts, made and brought up to date.

Each is made by whoever comes first; the others wait for a lock and find it made.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import make_url

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.tables import (
    TableColumn,
    create_observations,
    create_predictions,
    find_differences,
    prediction_key,
    prediction_table,
    quoted,
)
from mlops_for_mle.database.engine import engine_for, execute_plainly, lock
from mlops_for_mle.database.tables import metadata
from mlops_for_mle.errors import PrerequisiteError, UserError

# Kept here so that an up-to-date database is recognised without importing Alembic (0.3 s).
HEAD_REVISION = "0001"

_MIGRATIONS = Path(__file__).parent / "migrations"
_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, a.attnotnull AS is_required,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS has_default
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relname = :table AND pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p', 'f', 'v')
      AND a.attnum > 0 AND NOT a.attisdropped
"""


def prepare(url: str, contract: Contract) -> None:
    """Make sure that every table which the pipelines use is there."""
    upgrade(url)
    ensure_observations(url, contract)


def upgrade(url: str) -> bool:
    """Bring the project's own tables to the newest revision, all or nothing.

    Returns:
        Whether anything was changed.
    """
    with _in_turn(url) as connection:
        if _revision(connection) == HEAD_REVISION:
            return False
        from alembic import command
        from alembic.config import Config

        configuration = Config(attributes={"connection": connection})
        configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        configuration.set_main_option("path_separator", "os")
        command.upgrade(configuration, "head")
    return True


def require_tables(url: str) -> None:
    """Raise a ``PrerequisiteError`` where the project's tables are not there; changes nothing."""
    with engine_for(url).connect() as connection:
        if _revision(connection) != HEAD_REVISION:
            raise PrerequisiteError(
                "The project's tables are not there or of another revision: run `kedro run` or "
                "`kedro db upgrade` first."
            )


def ensure_observations(url: str, contract: Contract, *, may_change: bool = False) -> bool:
    """Make the contract's table where it is missing; compare its columns where it is there.

    Args:
        url: The database.
        contract: Whose table.
        may_change: Whether to add or loosen columns where the contract needs it.

    Returns:
        Whether the table was made or changed.
    """
    if contract.table in {*metadata.tables, "alembic_version", prediction_table(contract)}:
        raise UserError(
            f"contract.table: {contract.table} is a table of the project's own; name another, such "
            f"as {contract.name}_data."
        )
    with _in_turn(url) as connection:
        rows = connection.execute(text(_COLUMNS), {"table": contract.table})
        present = {row.name: TableColumn(*row) for row in rows}
        if not present:
            execute_plainly(connection, create_observations(contract))
            return True
        changes, obstacles = find_differences(contract, present)
        if obstacles:
            raise UserError(
                f"Table {contract.table} does not fit contract {contract.name}: "
                f"{'; '.join(obstacles)}. Nothing was changed: correct the contract, "
                "change the table yourself, or name another contract.table."
            )
        if changes and not may_change:
            raise UserError(
                f"Table {contract.table} needs changes for contract {contract.name}: "
                f"{'; '.join(changes.values())}. Make them with `kedro db upgrade --yes` (and the "
                "same --env), or name another contract.table."
            )
        for statement in changes:
            execute_plainly(connection, statement)
        return bool(changes)


def ensure_predictions(url: str, contract: Contract) -> None:
    """Make the contract's table of predictions, or add what one made by others lacks."""
    table, key = prediction_table(contract), prediction_key(contract)
    with _in_turn(url) as connection:
        # The last that is made. Otherwise every start would wait for whoever reads the table.
        if not inspect(connection).has_index(table, key):
            for statement in create_predictions(contract):
                execute_plainly(connection, statement)


def mlflow_store_url(url: str) -> str:
    """The URL of MLflow's backend store: the database ``mlflow`` beside the project's own.

    Creates the database where the login may, and makes or upgrades its tables in one process at a
    time, because two MLflow clients on an empty store collide and a newer MLflow refuses an older
    store.
    """
    name = "mlflow"
    store = make_url(url).set(database=name).render_as_string(hide_password=False)
    with _in_turn(url) as connection:
        known = text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
        if not connection.scalar(known, {"name": name}):
            allowed = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            if not connection.scalar(text(allowed)):
                raise UserError(
                    f"MLflow needs the database {name!r} beside {make_url(url).database!r}, and "
                    "this login may not create it: create it, or set MLFLOW_TRACKING_URI to an "
                    "MLflow server."
                )
            with engine_for(url).connect().execution_options(isolation_level="AUTOCOMMIT") as own:
                execute_plainly(own, f"CREATE DATABASE {quoted(name)}")
    with _in_turn(store) as connection:
        if _is_behind_mlflow(connection):
            from mlflow.store.db.utils import _initialize_tables

            for logger in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(logger).setLevel(logging.WARNING)
            engine = create_engine(store)
            _initialize_tables(engine)
            engine.dispose()
    return store


@contextmanager
def _in_turn(url: str) -> Iterator[Connection]:
    """A transaction while which nobody else looks at the tables to make or change them."""
    with engine_for(url).begin() as connection:
        lock(connection, "schema of mlops-for-mle")
        yield connection


def _revision(connection: Connection) -> str | None:
    # Not by to_regclass, which may remember what was so before a lock was waited for.
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def _is_behind_mlflow(connection: Connection) -> bool:
    """Whether the store has no tables, or the installed MLflow has revisions after its own."""
    revision, package = _revision(connection), find_spec("mlflow")
    if revision is None or package is None or package.origin is None:
        return revision is None
    versions = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    # Read as text: importing MLflow to ask it takes more than a second.
    follows = re.compile(rf"^down_revision\s*=\s*.{revision}", re.MULTILINE)
    return any(follows.search(path.read_text("utf-8")) for path in versions.glob("*.py"))
