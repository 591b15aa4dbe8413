"""``/observations``: the rows of the contract's table as a resource."""

import re
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Header, Query, Response

from mlops_for_mle.contract import Contract, Feature, rules
from mlops_for_mle.releases.manifest import sha256_of
from mlops_for_mle.serving.codec import check_fields
from mlops_for_mle.serving.context import json_body
from mlops_for_mle.serving.database import Pool, rows
from mlops_for_mle.serving.errors import Faults, ProblemError, refused
from mlops_for_mle.serving.openapi import (
    Schema,
    component,
    feature_schema,
    json_answer,
    json_request,
    object_of,
)
from mlops_for_mle.serving.predict import served_by
from mlops_for_mle.serving.services import Services

if TYPE_CHECKING:
    from sqlalchemy import Connection, TableClause

_PREFIX, _JSON = "/observations", "application/json"
_KEY, _TIMESTAMP = Feature(type="integer"), Feature(type="timestamp")
_TIMES = ("0001-01-01", "9999-12-31 23:59:59.999999")

_FIND_ANSWER = """
WITH old AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '7 days')
SELECT request_sha256, response FROM idempotency_keys
WHERE table_name = :table AND key = :key AND created_at >= now() - interval '7 days'
"""
_KEEP_ANSWER = """
INSERT INTO idempotency_keys (table_name, key, request_sha256, response)
VALUES (:table, :key, :digest, :response) RETURNING key
"""

_ROW = component("Observation")
_PAGE = object_of({"observations": {"type": "array", "items": _ROW}, "next": {}})

IfMatch = Annotated[str | None, Header(description="The entity tag that the client has seen, or *")]
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,255}$")]


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix=_PREFIX, tags=["observations"], default_response_class=Response)
    most = services.settings.max_concurrency
    reading, writing = Pool("reading", most), Pool("writing", most)

    @routes.post(
        "",
        summary="Create an observation",
        description="With an Idempotency-Key the same request can be sent again, for seven days, "
        "and is answered as it was the first time, without another row.",
        status_code=201,
        openapi_extra=json_request(component("NewObservation")),
        responses={201: json_answer("The new row", _ROW)},
    )
    @writing.endpoint
    def create(idempotency_key: IdempotencyKey = None) -> Response:
        contract = served_by(services).contract
        values = _read_body(contract, may_lack=(contract.timestamp,))
        with writing.begin() as connection:
            row = _create(connection, contract, values, idempotency_key)
        answer = _row_answer(row, 201)
        answer.headers["Location"] = f"{_PREFIX}/{msgspec.json.decode(row)[contract.key]}"
        return answer

    @routes.get(
        "",
        summary="List observations, in the order of their keys",
        responses={200: json_answer("A page, and the path of the next one", _PAGE)},
    )
    @reading.endpoint
    def page(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        order: Literal["asc", "desc"] = "asc",
        after: int | None = None,
    ) -> Response:
        contract = served_by(services).contract
        table = _table(contract)
        key = table.c[contract.key]
        query = table.select().order_by(key.asc() if order == "asc" else key.desc())
        if after is not None:
            query = query.where(key > after if order == "asc" else key < after)
        with reading.begin() as connection:
            # One more, which tells whether another page follows.
            encoded = _encoded(connection, query.limit(limit + 1))
        following = None
        if len(encoded) > limit:
            last = msgspec.json.decode(encoded[limit - 1])[contract.key]
            following = f"{_PREFIX}?limit={limit}&order={order}&after={last}"
        listed = [msgspec.Raw(row) for row in encoded[:limit]]
        body = msgspec.json.encode({"observations": listed, "next": following})
        return Response(body, media_type=_JSON)

    @routes.get(
        "/{key}", summary="Read an observation", responses={200: json_answer("The row", _ROW)}
    )
    @reading.endpoint
    def read(key: int) -> Response:
        with reading.begin() as connection:
            return _row_answer(_find(connection, served_by(services).contract, key))

    @routes.patch(
        "/{key}",
        summary="Change an observation, for example correct its label",
        description="Fields that are left out stay as they are.",
        openapi_extra=json_request(component("ObservationChange")),
        responses={200: json_answer("The row as it is now", _ROW)},
    )
    @writing.endpoint
    def change(key: int, if_match: IfMatch = None) -> Response:
        if if_match is None:
            text = "Send the entity tag of what you have read as If-Match: nobody's change is lost"
            raise ProblemError(428, text)
        contract = served_by(services).contract
        columns = _columns(contract)
        values = _read_body(contract, may_lack=columns)
        if not values:
            raise refused("", "changes nothing", f"some of {', '.join(columns)}", "{}")
        with writing.begin() as connection:
            _find(connection, contract, key, if_match)
            table = _table(contract)
            update = table.update().where(table.c[contract.key] == key).values(values)
            (row,) = _encoded(connection, update)
        return _row_answer(row)

    @routes.delete(
        "/{key}",
        summary="Delete an observation",
        description="With If-Match only as the client has seen it.",
        status_code=204,
    )
    @writing.endpoint
    def delete(key: int, if_match: IfMatch = "*") -> Response:
        contract = served_by(services).contract
        with writing.begin() as connection:
            _find(connection, contract, key, if_match)
            table = _table(contract)
            connection.execute(table.delete().where(table.c[contract.key] == key))
        return Response(status_code=204)

    return routes


def schemas(contract: Contract) -> dict[str, Schema]:
    """The components of the document."""
    new = {name: feature_schema(column) for name, column in _columns(contract).items()}
    required = [name for name, column in contract.columns.items() if not column.is_optional]
    # Another program may have written what is read, so nothing is said of its values.
    stored: dict[str, Schema] = {contract.key: {"type": "integer"}, **{name: {} for name in new}}
    return {
        "NewObservation": object_of(new, required),
        "ObservationChange": object_of(new, []),
        "Observation": object_of(stored),
    }


def _columns(contract: Contract) -> dict[str, Feature]:
    """What may be written, in the order of the table."""
    return {contract.timestamp: _TIMESTAMP, **contract.columns}


def _read_body(contract: Contract, may_lack: Container[str]) -> dict[str, Any]:
    """The columns of the body with their values as the table takes them."""
    faults, columns, body = Faults(), _columns(contract), json_body()
    values = check_fields(body, columns, faults, may_lack=may_lack)
    faults.raise_if_any()
    # Of a time as text PostgreSQL would ignore the offset.
    times = {name for name, column in columns.items() if column.is_time and values.get(name)}
    return values | {name: rules.read_time(values[name]) for name in times}


def _table(contract: Contract) -> "TableClause":
    from sqlalchemy import DateTime, column, table

    items = {contract.key: _KEY, **_columns(contract)}.items()
    columns = [column(name, DateTime if feature.is_time else None) for name, feature in items]
    return table(contract.table, *columns)


def _encoded(connection: "Connection", statement: Any) -> list[bytes]:
    """The rows that a statement reads or writes, as the JSON that clients get."""
    from sqlalchemy import DateTime, case

    # PostgreSQL knows times that Python does not: infinity, before our era, beyond the year 9999.
    columns = []
    for column in statement.table.c if statement.is_dml else statement.selected_columns:
        is_time = isinstance(column.type, DateTime)
        readable = case((column.between(*_TIMES), column)).label(column.name) if is_time else column
        columns.append(readable)
    take = statement.returning if statement.is_dml else statement.with_only_columns
    result = connection.execute(take(*columns)).mappings()
    return [_encode({name: _plain(value) for name, value in row.items()}) for row in result]


def _find(
    connection: "Connection", contract: Contract, key: int, if_match: str | None = None
) -> bytes:
    """A row; with the header it is locked, and its entity tag must be among those named."""
    table = _table(contract)
    statement = table.select().where(table.c[contract.key] == key)
    if if_match is not None:
        statement = statement.with_for_update()
    matches = _encoded(connection, statement)
    if not matches:
        raise ProblemError(404, f"{contract.table} has no row with {contract.key} {key}")
    tag = _tag(matches[0])
    # A proxy that compresses answers marks their tags: W/"…" or "…-gzip".
    if if_match not in (None, "*") and tag[:-1] not in re.findall(r'"\w+', if_match):
        detail = f"The observation was changed meanwhile, its entity tag is {tag}: read it again"
        raise ProblemError(412, detail, headers={"ETag": tag})
    return matches[0]


def _create(
    connection: "Connection", contract: Contract, values: Mapping[str, Any], key: str | None
) -> bytes:
    """Make a row, at most once for an idempotency key; gives what was answered the first time."""
    from sqlalchemy import text

    from mlops_for_mle.database.engine import UTC_NOW, lock

    digest = sha256_of(msgspec.json.encode(values, order="deterministic"))
    if key is not None:
        lock(connection, f"idempotency key {key} of {contract.table}")
        for stored in rows(connection, _FIND_ANSWER, table=contract.table, key=key):
            if stored["request_sha256"] != digest:
                raise refused("Idempotency-Key", "was used for another request", "a new key", key)
            return str(stored["response"]).encode()
    row = {contract.timestamp: text(UTC_NOW), **values}
    (created,) = _encoded(connection, _table(contract).insert().values(row))
    if key is not None:
        parameters = {"table": contract.table, "key": key, "digest": digest}
        rows(connection, _KEEP_ANSWER, **parameters, response=created.decode())
    return created


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _plain(value: Any) -> Any:
    """A value as JSON has it; times are UTC, which is the zone of the transaction."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC)
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _tag(row: bytes) -> str:
    """The entity tag of a row, which follows from its content."""
    return f'"{sha256_of(row)[:32]}"'


def _row_answer(row: bytes, status: int = 200) -> Response:
    return Response(row, status, {"ETag": _tag(row)}, _JSON)
