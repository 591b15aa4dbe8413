"""The database as the server uses it: one pool for requests, own connections for its threads.

SQLAlchemy is imported with the first question, so that it never delays the first answer.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from mlops_for_mle.serving.errors import ProblemError, not_ready

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Psycopg  # noqa: N812  (a class of C code)
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)


def own_connection(statement_seconds: float) -> "Psycopg":
    """A connection that one thread keeps for itself, whose statements are bounded in time.

    Raises:
        Exception: The database does not answer.
    """
    import psycopg2
    from sqlalchemy.engine import make_url

    from mlops_for_mle.database.engine import CONNECT_ARGS, database_url

    url = make_url(database_url())
    arguments, options = url.get_dialect()().create_connect_args(url)
    bound = {"options": f"-c statement_timeout={int(statement_seconds * 1000)}"}
    connection: Psycopg = psycopg2.connect(*arguments, **{**bound, **CONNECT_ARGS, **options})
    return connection


def reason_of(error: BaseException) -> str:
    """Why the database does not do what it is asked for, in its own words, on one line."""
    original = getattr(error, "orig", None) or error
    first = str(original).strip().partition("\nLINE ")[0]
    # 42P01 and 42703 are missing tables and columns.
    is_missing = getattr(original, "pgcode", None) in {"42P01", "42703"}
    hint = " (run `kedro db upgrade`)" if is_missing else ""
    return " ".join(first.split()) + hint


class Database:
    """Hands out transactions to routes; made once a process, used from several threads."""

    @contextmanager
    def begin(self) -> "Iterator[Connection]":
        """A transaction that is committed at its end and rolled back after an error.

        Raises:
            ProblemError: 503, the database does not answer, takes too long or lacks a table; 409,
                a rule of the table forbids the change.
        """
        from sqlalchemy import exc, text

        from mlops_for_mle.database.engine import database_url, engine_for

        try:
            with engine_for(database_url()).begin() as connection:
                connection.execute(text("SET LOCAL statement_timeout = '10s'"))
                yield connection
        except exc.IntegrityError as error:
            reason = str(error.orig).partition("\n")[0].strip()
            raise ProblemError(
                HTTPStatus.CONFLICT, f"The table does not allow the change: {reason}"
            ) from error
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            logger.warning("The database does not answer a request: %s", error)
            raise not_ready("The database does not answer at the moment", 5) from error
