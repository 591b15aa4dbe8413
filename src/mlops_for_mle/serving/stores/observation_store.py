"""Reads and writes a contract's table of observations for the API."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mlops_for_mle.contract import Contract
from mlops_for_mle.serving.http.problems import FieldError, ProblemError, unprocessable
from mlops_for_mle.serving.stores.observation_filters import Filter
from mlops_for_mle.serving.stores.route_database import RouteDatabase

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_LARGEST_KEY = 2**31 - 1
_KEPT_DAYS = 7

_encode = msgspec.json.Encoder(order="deterministic").encode
_encode_row = msgspec.json.Encoder(decimal_format="number").encode


class Observation(NamedTuple):
    """A row as clients get it.

    Attributes:
        key: The value of its primary key.
        body: Its JSON.
        tag: Its entity tag; the same content always has the same one.
    """

    key: int
    body: bytes
    tag: str


class Created(NamedTuple):
    """A row that was made, or that an earlier request with the same idempotency key made."""

    observation: Observation
    is_replayed: bool


class ObservationStore:
    """The table of the contract that is passed to each call."""

    def __init__(self, database: RouteDatabase) -> None:
        """Use a database."""
        self._database = database

    def create(
        self, contract: Contract, values: Mapping[str, Any], idempotency_key: str | None
    ) -> Created:
        """Insert a row, at most once for an idempotency key.

        Raises:
            ProblemError: 422, the idempotency key was used for another request; 409 or 503 as
                ``RouteDatabase.begin`` says.
        """
        from sqlalchemy import func, insert

        table = _table(contract)
        now = func.timezone("utc", func.now())
        statement = insert(table).values({contract.timestamp: now, **values}).returning(table)
        with self._database.begin() as connection:
            if idempotency_key is not None:
                kept = _reserve(connection, contract, idempotency_key, values)
                if kept is not None:
                    return Created(kept, is_replayed=True)
            row = connection.execute(statement).mappings().one()
            observation = _observation(contract, row)
            if idempotency_key is not None:
                _complete(connection, contract, idempotency_key, observation)
        return Created(observation, is_replayed=False)

    def find(self, contract: Contract, key: int) -> Observation:
        """Read a row.

        Raises:
            ProblemError: 404, there is none with this key; 503.
        """
        with self._database.begin() as connection:
            return _find(connection, contract, key)

    def page(
        self,
        contract: Contract,
        filters: Sequence[Filter],
        after: int | None,
        limit: int,
        is_descending: bool,
    ) -> list[Observation]:
        """Rows in the order of their keys, at most ``limit`` of them.

        Args:
            contract: Whose rows.
            filters: Conditions, all of which hold.
            after: The key of the last row of the page before; None for the first page.
            limit: How many rows at most.
            is_descending: Whether the newest come first.
        """
        from sqlalchemy import select

        table = _table(contract)
        key = table.c[contract.key]
        statement = select(table).order_by(key.desc() if is_descending else key.asc()).limit(limit)
        for one in filters:
            statement = statement.where(_condition(table, one))
        if after is not None:
            statement = statement.where(key < after if is_descending else key > after)
        with self._database.begin() as connection:
            rows = connection.execute(statement).mappings().all()
        return [_observation(contract, row) for row in rows]

    def change(
        self, contract: Contract, key: int, changes: Mapping[str, Any], tags: frozenset[str]
    ) -> Observation:
        """Change columns of a row that is still as the client has seen it.

        Args:
            contract: Whose row.
            key: Its key.
            changes: New values by column.
            tags: The entity tags that the client allows; ``*`` allows any.

        Raises:
            ProblemError: 404, there is no such row; 412, it has changed; 409 or 503.
        """
        from sqlalchemy import update

        table = _table(contract)
        statement = (
            update(table).where(table.c[contract.key] == key).values(dict(changes)).returning(table)
        )
        with self._database.begin() as connection:
            _require(_find(connection, contract, key, lock=True), tags)
            return _observation(contract, connection.execute(statement).mappings().one())

    def delete(self, contract: Contract, key: int, tags: frozenset[str]) -> None:
        """Delete a row; ``tags`` as for ``change``.

        Raises:
            ProblemError: 404, there is no such row; 412, it has changed; 409 or 503.
        """
        from sqlalchemy import delete

        table = _table(contract)
        with self._database.begin() as connection:
            _require(_find(connection, contract, key, lock=True), tags)
            connection.execute(delete(table).where(table.c[contract.key] == key))


def _find(
    connection: "Connection", contract: Contract, key: int, lock: bool = False
) -> Observation:
    from sqlalchemy import select

    table = _table(contract)
    row = None
    if 0 <= key <= _LARGEST_KEY:
        statement = select(table).where(table.c[contract.key] == key)
        statement = statement.with_for_update() if lock else statement
        row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"{contract.table} has no row with {contract.key} {key}"
        )
    return _observation(contract, row)


def _require(observation: Observation, tags: frozenset[str]) -> None:
    if "*" not in tags and observation.tag not in tags:
        raise ProblemError(
            HTTPStatus.PRECONDITION_FAILED,
            f"The observation was changed meanwhile, its entity tag is {observation.tag}: "
            "read it again",
            headers={"ETag": observation.tag},
        )


def _reserve(
    connection: "Connection", contract: Contract, key: str, values: Mapping[str, Any]
) -> Observation | None:
    """Take an idempotency key; gives what an earlier request with it has made.

    A second request with the same key waits here until the first one has ended.
    """
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql import insert

    from mlops_for_mle.database.tables import idempotency_keys as keys

    _forget_old_keys(connection)
    digest = hashlib.sha256(_encode(dict(values))).hexdigest()
    statement = insert(keys).values(table_name=contract.table, key=key, request_sha256=digest)
    reserved = connection.execute(statement.on_conflict_do_nothing().returning(keys.c.key))
    if reserved.first() is not None:
        return None
    kept = connection.execute(
        select(keys.c.request_sha256, keys.c.response).where(
            keys.c.table_name == contract.table, keys.c.key == key
        )
    ).one()
    if kept.request_sha256 != digest:
        raise unprocessable(
            [FieldError("Idempotency-Key", "was used for another request", key, "a new key")]
        )
    body = str(kept.response).encode()
    return Observation(msgspec.json.decode(body)[contract.key], body, _tag(body))


def _forget_old_keys(connection: "Connection") -> None:
    from sqlalchemy import text

    connection.execute(
        text(
            "DELETE FROM idempotency_keys WHERE (table_name, key) IN (SELECT table_name, key "
            "FROM idempotency_keys WHERE created_at < now() - make_interval(days => :days) "
            "LIMIT 100 FOR UPDATE SKIP LOCKED)"
        ),
        {"days": _KEPT_DAYS},
    )


def _complete(
    connection: "Connection", contract: Contract, key: str, observation: Observation
) -> None:
    from sqlalchemy import update

    from mlops_for_mle.database.tables import idempotency_keys as keys

    connection.execute(
        update(keys)
        .where(keys.c.table_name == contract.table, keys.c.key == key)
        .values(response=observation.body.decode())
    )


def _condition(table: "Table", one: Filter) -> Any:
    import operator

    compare = {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }[one.operator]
    return compare(table.c[one.column], one.value)


def _observation(contract: Contract, row: Mapping[Any, Any]) -> Observation:
    shown = {
        name: f"{value.isoformat()}Z" if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    body = _encode_row(shown)
    return Observation(int(row[contract.key]), body, _tag(body))


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _table(contract: Contract) -> "Table":
    return _table_of(contract.model_dump_json())


@lru_cache(maxsize=8)
def _table_of(contract: str) -> "Table":
    """The same object for the same contract, so that SQLAlchemy compiles its statements once."""
    from mlops_for_mle.contract_tables import observation_table

    return observation_table(Contract.model_validate_json(contract))
