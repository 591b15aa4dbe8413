"""The database as the server uses it: for each kind of work its own connections and time limits.

SQLAlchemy is imported with the first question, so that it never delays the first answer.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from mlops_for_mle.errors import UserError
from mlops_for_mle.serving.errors import ProblemError, not_ready, too_many
from mlops_for_mle.serving.request import current_request

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Params = ParamSpec("Params")
Result = TypeVar("Result")

_CONNECTIONS, _SECONDS = 4, 10.0


@contextmanager
def transaction(pool: str, statement_seconds: float = _SECONDS) -> "Iterator[Connection]":
    """A connection of a named pool; what is not committed at its end is rolled back."""
    from mlops_for_mle.database.engine import database_url

    # Asked for each time: the embedded server may come back at another port.
    with _engine(database_url(), pool, statement_seconds).connect() as connection:
        yield connection


@lru_cache(maxsize=16)
def _engine(url: str, pool: str, statement_seconds: float) -> "Engine":
    from sqlalchemy import Connection, create_engine, event

    from mlops_for_mle.database.engine import CONNECT_ARGS, ISOLATION

    engine = create_engine(
        url,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_SECONDS,
        pool_pre_ping=True,
        isolation_level=ISOLATION,
        connect_args=CONNECT_ARGS | {"application_name": f"mlops-for-mle {pool}"},
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Columns with a zone and those without are then read and written alike.
        limit = f"SET LOCAL statement_timeout = {statement_seconds * 1000:.0f}"
        connection.exec_driver_sql(f"{limit}; SET LOCAL TIME ZONE 'UTC'")

    @event.listens_for(engine, "commit")
    def commit(connection: Connection) -> None:
        request = current_request.get(None)
        if request is not None and request.is_cancelled:
            # The client was told that it took too long, and may send it again.
            connection.connection.rollback()
            request.raise_if_cancelled()

    return engine


def rows(connection: "Connection", statement: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows that a statement returns."""
    from sqlalchemy import text

    return [dict(row) for row in connection.execute(text(statement), parameters).mappings()]


def reason_of(error: BaseException) -> str:
    """Why the database does not do what it is asked for, in its own words, on one line."""
    original = getattr(error, "orig", None) or error
    reason = " ".join(str(original).partition("\nLINE ")[0].split())
    # A table or a column.
    is_missing = getattr(original, "pgcode", None) in {"42P01", "42703"}
    return f"{reason} (run `kedro db upgrade`)" if is_missing else reason


class Pool:
    """The threads and connections of one kind of request: no other kind waits for them.

    A quarter of all requests may be of one kind.
    """

    def __init__(self, name: str, max_concurrency: int) -> None:
        self._name, self._requests = name, 0
        self._threads = CapacityLimiter(max(1, max_concurrency // 4))

    @contextmanager
    def begin(self) -> "Iterator[Connection]":
        """A transaction that is committed at its end and rolled back after an error.

        ProblemError 409: a rule of the table forbids the change; 503: the database cannot be used.
        """
        from sqlalchemy import exc

        try:
            with transaction(self._name) as connection:
                yield connection
                connection.commit()
        except (exc.IntegrityError, exc.DataError) as error:
            first = str(error.orig).partition("\n")[0]
            raise ProblemError(409, f"The table does not allow the change: {first}") from error
        except (exc.DBAPIError, exc.TimeoutError, UserError, OSError) as error:
            detail = f"The database cannot be used at the moment: {reason_of(error)}"
            raise not_ready(detail) from error

    def endpoint(self, function: Callable[Params, Result]) -> Callable[Params, Awaitable[Result]]:
        """Have the function of a route run in a thread."""

        @wraps(function)
        async def endpoint(*values: Params.args, **named: Params.kwargs) -> Result:
            # Not `available_tokens`: a thread takes its token in the next turn of the event loop.
            if self._requests == self._threads.total_tokens:
                raise too_many(f"{self._requests} such requests wait for the database already")
            work = partial(function, *values, **named)
            self._requests += 1
            try:
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
            finally:
                self._requests -= 1
                current_request.get().is_cancelled = True

        return endpoint
