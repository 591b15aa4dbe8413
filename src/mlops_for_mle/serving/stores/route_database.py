"""The database as the ordinary routes use it: what goes wrong there becomes a problem document.

SQLAlchemy is imported with the first request that needs it, never before the first prediction.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from mlops_for_mle.serving.http.problems import ProblemError, not_ready

if TYPE_CHECKING:
    from sqlalchemy import Connection

_RETRY_SECONDS = 5

logger = logging.getLogger(__name__)


class RouteDatabase:
    """Hands out transactions; made once a process, used from several threads."""

    def __init__(self) -> None:
        """Nothing is connected before the first transaction."""
        self._url: str | None = None

    @contextmanager
    def begin(self) -> "Iterator[Connection]":
        """A transaction that is committed at its end and rolled back after an error.

        Raises:
            ProblemError: 503, the database does not answer, takes too long or lacks a table; 409,
                a rule of the table forbids the change.
        """
        from psycopg2 import errors
        from sqlalchemy import exc, text

        from mlops_for_mle.database import database_url, reachable
        from mlops_for_mle.errors import UserError

        try:
            self._url = self._url or database_url()
            with reachable(self._url) as engine, engine.begin() as connection:
                connection.execute(text("SET LOCAL statement_timeout = '10s'"))
                yield connection
        except exc.IntegrityError as error:
            reason = str(error.orig).partition("\n")[0].strip()
            raise ProblemError(
                HTTPStatus.CONFLICT, f"The table does not allow the change: {reason}"
            ) from error
        except exc.ProgrammingError as error:
            if isinstance(error.orig, errors.UndefinedTable | errors.UndefinedColumn):
                reason = str(error.orig).partition("\n")[0].strip()
                raise not_ready(
                    f"The database is not prepared ({reason}): run `kedro db upgrade` and "
                    "`kedro run` first.",
                    _RETRY_SECONDS,
                ) from error
            raise
        except (UserError, exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            # The embedded server may come back at another port.
            self._url = None
            logger.warning("The database does not answer a request: %s", error)
            raise not_ready("The database does not answer at the moment", _RETRY_SECONDS) from error
