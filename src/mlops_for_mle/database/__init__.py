"""The one place that knows where the database is and that its tables are there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract_tables import observation_table
from mlops_for_mle.errors import ConfigurationError, PrerequisiteError, UserError
from mlops_for_mle.held_name import HeldName
from mlops_for_mle.observation_tables import TableChange, apply_changes, find_differences
from mlops_for_mle.paths import embedded_home

DATABASE_NAME = "mlops"
MLFLOW_DATABASE_NAME = "mlflow"
SUPPORTED_SERVERS = range(15, 19)

# Kept here so that an up-to-date database is recognised without importing Alembic (0.3 s).
HEAD_REVISION = "0005"

_DRIVER = "postgresql+psycopg2"
_SCHEMA_LOCK = 7_210_001


class DatabaseUnavailableError(UserError):
    """The database does not answer."""


def is_embedded() -> bool:
    """Whether no external database is configured."""
    return not os.environ.get("DATABASE_URL", "").strip()


def database_url() -> str:
    """The SQLAlchemy URL of the project's database.

    ``DATABASE_URL`` where it is set; else the embedded server, which is started when it is not
    running and which this process then keeps running until it ends.

    Raises:
        ConfigurationError: ``DATABASE_URL`` is not the URL of a PostgreSQL database.
    """
    configured = os.environ.get("DATABASE_URL", "").strip()
    if configured:
        return normalise_url(configured, "DATABASE_URL")
    from mlops_for_mle.database import embedded

    server = embedded.acquire(embedded_home(), databases=(DATABASE_NAME, MLFLOW_DATABASE_NAME))
    return server.url(DATABASE_NAME)


def normalise_url(raw: str, variable: str) -> str:
    """Give a PostgreSQL URL the driver that is installed.

    Raises:
        ConfigurationError: It is not a PostgreSQL URL with a database name. The message shows
            neither user nor password.
    """
    form = f"{variable}: expected postgresql://user:password@host:port/database"
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"{form}, found text that is no URL") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"{form}, found the scheme {url.drivername!r}")
    if not url.database:
        raise ConfigurationError(f"{form}, found no database name")
    return url.set(drivername=_DRIVER).render_as_string(hide_password=False)


@lru_cache(maxsize=8)
def engine_for(url: str) -> Engine:
    """The process's one engine for a URL; connections are checked before they are used."""
    return create_engine(
        url,
        pool_pre_ping=True,
        connect_args={
            "application_name": "mlops-for-mle",
            # Else names and text depend on how somebody has made the database.
            "client_encoding": "utf8",
            "connect_timeout": 5,
            # Otherwise a connection that a network dropped silently would block for minutes.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )


@contextmanager
def reachable(url: str) -> Iterator[Engine]:
    """Give the engine, and turn a refused connection into one sentence.

    Raises:
        DatabaseUnavailableError: The server does not answer or refuses the login.
    """
    try:
        yield engine_for(url)
    except OperationalError as error:
        parts = make_url(url)
        reason = " ".join(str(error.orig).split())
        raise DatabaseUnavailableError(
            f"The database {parts.database!r} at {parts.host}:{parts.port or 5432} "
            f"is not available: {reason}"
        ) from error


@contextmanager
def advisory_lock(connection: Connection, number: int) -> Iterator[None]:
    """Hold a session lock of the database, so that two processes take turns."""
    connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": number})
        connection.commit()


@contextmanager
def only_one(engine: Engine, name: str) -> Iterator[HeldName | None]:
    """Take a name for as long as the context lasts; gives None where somebody else has it.

    The name is free again when the process ends, however it does, or loses its connection.
    """
    held = HeldName(engine, name)
    try:
        yield held if held.take() else None
    finally:
        held.give()


def upgrade(url: str) -> bool:
    """Bring the project's own tables to the newest revision; safe in several processes at once.

    Returns:
        Whether anything was changed.

    Raises:
        DatabaseUnavailableError: The server does not answer.
        UserError: The server is older than supported, or newer revisions were applied before.
    """
    with reachable(url) as engine, engine.connect() as connection:
        if current_revision(connection) == HEAD_REVISION:
            return False
        _check_server(connection)
        with advisory_lock(connection, _SCHEMA_LOCK):
            found = current_revision(connection)
            if found == HEAD_REVISION:
                return False
            if found is not None and found > HEAD_REVISION:
                raise UserError(
                    f"The database is at revision {found}, newer than this program's "
                    f"{HEAD_REVISION}: update the program."
                )
            from mlops_for_mle.migrations import run_migrations

            run_migrations(connection)
    return True


def current_revision(connection: Connection) -> str | None:
    """The revision that the database's tables are at; None in an empty database."""
    present = connection.scalar(text("SELECT to_regclass('alembic_version')"))
    revision = (
        connection.scalar(text("SELECT version_num FROM alembic_version")) if present else None
    )
    connection.rollback()
    return str(revision) if revision is not None else None


def ensure_observation_table(
    url: str,
    contract: Contract,
    may_change: Callable[[tuple[TableChange, ...]], bool] = lambda changes: False,
) -> bool:
    """Make the contract's table where it is missing; compare its columns where it is there.

    Args:
        url: The database.
        contract: Whose table.
        may_change: Asked for leave when the table needs changes, all of which only add or loosen.

    Returns:
        Whether the table was made or changed.

    Raises:
        UserError: The table is there and does not fit the contract; says what would have to
            change.
    """
    table = observation_table(contract)
    with reachable(url) as engine, engine.connect() as connection:
        differences = find_differences(connection, contract)
        if differences is None:
            with advisory_lock(connection, _SCHEMA_LOCK):
                made = not inspect(connection).has_table(contract.table)
                table.create(connection, checkfirst=True)
                connection.commit()
            return made
        if differences.obstacles:
            raise UserError(
                f"Table {contract.table} does not fit contract {contract.name}: "
                f"{'; '.join(differences.obstacles)}. Nothing was changed: correct the contract, "
                "change the table yourself, or name another contract.table."
            )
        if not differences.changes:
            return False
        if not may_change(differences.changes):
            described = "; ".join(change.description for change in differences.changes)
            raise UserError(
                f"Table {contract.table} needs changes for contract {contract.name}: {described}. "
                "Make them with `kedro db upgrade --yes` (and the same --env), or name another "
                "contract.table."
            )
        with advisory_lock(connection, _SCHEMA_LOCK):
            # Another process may have made them meanwhile.
            found = find_differences(connection, contract)
            apply_changes(connection, found.changes if found is not None else ())
    return True


def prepare(url: str, contract: Contract) -> None:
    """Make sure that every table which the pipelines use is there."""
    upgrade(url)
    ensure_observation_table(url, contract)


def require_tables(url: str) -> None:
    """Check, changing nothing, that the tables are at this program's revision.

    Raises:
        PrerequisiteError: They are not.
    """
    with reachable(url) as engine, engine.connect() as connection:
        found = current_revision(connection)
    if found != HEAD_REVISION:
        raise PrerequisiteError(
            f"The database is at revision {found}, this program needs {HEAD_REVISION}: "
            "run `kedro db upgrade` first."
        )


def _check_server(connection: Connection) -> None:
    number = int(connection.scalar(text("SHOW server_version_num")) or 0)
    connection.rollback()
    if number // 10_000 < SUPPORTED_SERVERS.start:
        raise UserError(
            f"The server is PostgreSQL {number // 10_000}; versions "
            f"{SUPPORTED_SERVERS.start} to {SUPPORTED_SERVERS.stop - 1} are supported."
        )
