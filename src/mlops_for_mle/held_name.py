"""A name in the database that one process at a time has."""

import logging
from contextlib import suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from mlops_for_mle.errors import UserError

_TAKE = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
_GIVE = text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")

_LOGGER = logging.getLogger(__name__)


class HeldName:
    """An advisory lock: the server takes it away with the connection that has it."""

    def __init__(self, engine: Engine, name: str) -> None:
        """Connect; the name is not taken yet."""
        self._engine = engine
        self._name = name
        self._connection: Connection = engine.connect()
        self._is_mine = False

    def take(self) -> bool:
        """Take the name; gives whether nobody else has it."""
        self._is_mine = bool(self._connection.scalar(_TAKE, {"name": self._name}))
        self._connection.commit()
        return self._is_mine

    def keep(self) -> None:
        """Make sure that it is still held, and take it again where the connection was lost.

        Raises:
            UserError: The connection was lost, and another process has taken the name since.
            OperationalError: The server does not answer.
        """
        try:
            self._connection.execute(text("SELECT 1"))
            self._connection.commit()
        except DBAPIError:
            self._is_mine = False
            self._connection.invalidate()
            self._connection.close()
        if self._is_mine:
            return
        self._connection = self._engine.connect()
        if not self.take():
            raise UserError(
                f"The connection to the database that held {self._name} was lost, and another "
                "process has taken it since: this one stops here."
            )
        _LOGGER.warning("The connection that held %s was lost; it is held again.", self._name)

    def give(self) -> None:
        """Leave the name to others, and disconnect."""
        if self._is_mine:
            # With the connection, the server has taken the lock away too.
            with suppress(DBAPIError):
                self._connection.rollback()
                self._connection.execute(_GIVE, {"name": self._name})
                self._connection.commit()
        self._connection.close()
