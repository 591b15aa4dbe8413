"""Where PostgreSQL is, its engine and the project's tables."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from mlops_for_mle.database.engine import (
    DATABASE_NAME,
    MLFLOW_DATABASE_NAME,
    database_url,
    engine_for,
    is_embedded,
    normalise_url,
)
from mlops_for_mle.database.schema import (
    HEAD_REVISION,
    ensure_observations,
    prepare,
    require_tables,
    upgrade,
)
from mlops_for_mle.errors import UserError

__all__ = [
    "DATABASE_NAME",
    "HEAD_REVISION",
    "MLFLOW_DATABASE_NAME",
    "database_url",
    "engine_for",
    "ensure_observations",
    "is_embedded",
    "normalise_url",
    "prepare",
    "require_tables",
    "upgrade",
]


class DatabaseUnavailableError(UserError):
    """The database does not answer."""


@contextmanager
def reachable(url: str) -> Iterator[Engine]:
    """Give the engine, and turn a refused connection into one sentence."""
    try:
        yield engine_for(url)
    except OperationalError as error:
        parts = make_url(url)
        reason = " ".join(str(error.orig).split())
        raise DatabaseUnavailableError(
            f"The database {parts.database!r} at {parts.host}:{parts.port or 5432} "
            f"is not available: {reason}"
        ) from error
