"""Where the project's database is, and the engine that connects to it."""

import os
from contextlib import suppress
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.paths import embedded_home

UTC_NOW = "timezone('utc', now())"
"""The clock of columns without a zone, whatever the session's zone is."""
CONNECT_ARGS = {
    "application_name": "mlops-for-mle",
    # Otherwise names and text would depend on the encoding of the database.
    "client_encoding": "utf8",
    "connect_timeout": 5,
    # Otherwise a connection that a network dropped silently would block for minutes.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

# Whatever the role's default: whoever has waited for a lock has to see what the others have done.
ISOLATION = "READ COMMITTED"
# A server may be set to end transactions that wait, as those with a lock do for other servers.
_LOCK = """
SET LOCAL idle_in_transaction_session_timeout TO 0;
SELECT {}(hashtextextended(:name, 0))
"""
# PostgreSQL has it since 17.
_NO_LIMIT = "SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'"


def is_embedded() -> bool:
    """Whether no external database is configured."""
    return not os.environ.get("DATABASE_URL", "").strip()


def database_url() -> str:
    """The SQLAlchemy URL of the project's database: ``DATABASE_URL``, else the embedded server's.

    That one is started when it is not running, and kept running until this process ends.
    """
    if not is_embedded():
        return normalise_url(os.environ["DATABASE_URL"].strip(), "DATABASE_URL")
    from mlops_for_mle.database import embedded

    return embedded.acquire(embedded_home()).url("mlops")


def normalise_url(raw: str, variable: str) -> str:
    """Give a PostgreSQL URL the driver that is installed."""
    with suppress(ArgumentError, ValueError):
        url = make_url(raw)
        is_postgres = url.get_backend_name() in {"postgresql", "postgres"}
        # An @ of the password would be shown as the host that is not found.
        if is_postgres and url.database and "@" not in str(url.host):
            # As it stands: SQLAlchemy would write blanks as no other client reads them.
            return "postgresql+psycopg2" + raw[raw.index(":") :]
    raise ConfigurationError(
        f"{variable}: expected postgresql://user:password@host:port/database (%40 stands for @)"
    )


@lru_cache(maxsize=8)
def engine_for(url: str) -> Engine:
    """The process's one engine for a URL; connections are checked before they are used."""
    return create_engine(
        url,
        pool_pre_ping=True,
        isolation_level=ISOLATION,
        # The threads of a batch hold several each, and would wait for each other for ever.
        max_overflow=-1,
        connect_args=CONNECT_ARGS,
    )


def lock(connection: Connection, name: str) -> None:
    """Take turns with everybody who locks the same name, until this transaction ends."""
    connection.execute(text(_LOCK.format("pg_advisory_xact_lock")), {"name": name})


def try_lock(url: str, name: str) -> Connection | None:
    """Take a lock that the transaction of the connection returned holds; None if another has it.

    A lock of the session would stay with a pooler of connections.
    """
    connection = engine_for(url).connect()
    connection.exec_driver_sql(_NO_LIMIT)
    if connection.scalar(text(_LOCK.format("pg_try_advisory_xact_lock")), {"name": name}):
        return connection
    connection.close()
    return None


def execute_raw(connection: Connection, statement: str) -> CursorResult[Any]:
    """Execute a statement as it stands: names in it may hold percent signs and colons."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as a constant of SQL."""
    return "'" + value.replace("'", "''") + "'"
