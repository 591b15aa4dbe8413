"""MLflow's backend store: the database ``mlflow`` beside the project's own."""

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url

from mlops_for_mle.database import (
    MLFLOW_DATABASE_NAME,
    advisory_lock,
    current_revision,
    reachable,
)
from mlops_for_mle.errors import UserError

_LOCK = 7_210_002


def mlflow_store_url(url: str) -> str:
    """The URL of MLflow's backend store: the database ``mlflow`` beside the project's own.

    Creates the database where the login may, and makes its tables in one process at a time,
    because two MLflow clients on an empty store collide.

    Raises:
        UserError: The database is missing and this login may not create it.
    """
    store = make_url(url).set(database=MLFLOW_DATABASE_NAME)
    rendered = store.render_as_string(hide_password=False)
    with reachable(url) as engine, engine.connect() as connection:
        if not _database_exists(connection, MLFLOW_DATABASE_NAME):
            with advisory_lock(connection, _LOCK):
                if not _database_exists(connection, MLFLOW_DATABASE_NAME):
                    _create_database(connection, store)
    with reachable(rendered) as engine, engine.connect() as connection:
        if current_revision(connection) is None:
            with advisory_lock(connection, _LOCK):
                if current_revision(connection) is None:
                    _create_mlflow_tables(rendered)
    return rendered


def _database_exists(connection: Connection, name: str) -> bool:
    found = connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :n"), {"n": name})
    connection.rollback()
    return found is not None


def _create_database(connection: Connection, store: URL) -> None:
    allowed = connection.scalar(
        text("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
    )
    connection.rollback()
    if not allowed:
        raise UserError(
            f"MLflow needs the database {store.database!r} at {store.host} and this login may "
            "not create it: create it, or set MLFLOW_TRACKING_URI to an MLflow server."
        )
    with connection.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.execute(text(f'CREATE DATABASE "{store.database}"'))


def _create_mlflow_tables(url: str) -> None:
    import logging

    from mlflow.store.db.utils import _initialize_tables

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    engine = create_engine(url)
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
