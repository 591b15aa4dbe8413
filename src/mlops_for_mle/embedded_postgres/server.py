"""A running embedded PostgreSQL as its clients see it: its address, its login, its databases."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlops_for_mle.embedded_postgres.placement import EmbeddedPostgresError

HOST = "127.0.0.1"
USER = "mlops"
PASSWORD_FILE = "pgpass"  # noqa: S105 (the name of a file)


class LoginError(EmbeddedPostgresError):
    """The server does not accept our login, or is not ours."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing
        """Whether the server is starting, recovering or shutting down, or does not listen."""


@dataclass(frozen=True)
class Server:
    """A running server on which this process holds a lease."""

    port: int
    """TCP port on 127.0.0.1."""
    user: str
    passfile: Path
    """libpq's password file (mode 0600); the password stands nowhere else."""
    data_directory: Path
    log_file: Path

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database; it names the password file, not the password."""
        return (
            f"postgresql+psycopg2://{self.user}@{HOST}:{self.port}/{quote(database, safe='')}"
            f"?passfile={quote(str(self.passfile), safe='/')}"
        )

    def environment(self, database: str) -> dict[str, str]:
        """The environment variables with which psql, pg_dump and the like find a database."""
        return {
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": database,
            "PGPASSFILE": str(self.passfile),
        }


def existing_databases(server: Server) -> set[str]:
    """The databases of the server, by a login that proves that it is the one of our cluster.

    Raises:
        LoginError: if it refuses the login or serves another cluster.
    """
    import psycopg2

    try:
        with closing(_connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('data_directory'), datname FROM pg_database")
            rows = cursor.fetchall()
    except psycopg2.Error as error:
        reason = str(error).strip()
        passing = (
            "the database system is",
            "Connection refused",
            "terminat",
            "closed the connection",
        )
        raise LoginError(
            f"The PostgreSQL of {server.data_directory} refuses a login with {server.passfile}: "
            f"{reason}",
            passing=any(text in reason for text in passing),
        ) from error
    if Path(rows[0][0]).resolve() != server.data_directory.resolve():
        raise LoginError(
            f"On port {server.port} answers the PostgreSQL of {rows[0][0]} instead of the one of "
            f"{server.data_directory}.",
            passing=False,
        )
    return {row[1] for row in rows}


def create_database(server: Server, database: str) -> None:
    """Create a database.

    Raises:
        EmbeddedPostgresError: if the server refuses.
    """
    import psycopg2
    from psycopg2.sql import SQL, Identifier

    try:
        with closing(_connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
    except psycopg2.Error as error:
        raise EmbeddedPostgresError(
            f"The database {database!r} cannot be created: {str(error).strip()}"
        ) from error


def _connect(server: Server) -> Any:
    import psycopg2

    parameters: dict[str, Any] = {
        "host": HOST,
        "port": server.port,
        "user": server.user,
        "dbname": "postgres",
        "passfile": str(server.passfile),
        "sslmode": "disable",
        "gssencmode": "disable",
        "connect_timeout": 10,
        "application_name": "mlops-for-mle",
    }
    # Demanding scram proves the server's identity too, and never hands the password to a stranger.
    if psycopg2.__libpq_version__ >= 160000:
        parameters["require_auth"] = "scram-sha-256"
    connection = psycopg2.connect(**parameters)
    connection.autocommit = True
    return connection
