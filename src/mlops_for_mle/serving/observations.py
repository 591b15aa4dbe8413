"""``/observations``: the rows of the contract's table as a resource."""

import hashlib
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Header, Query, Response

from mlops_for_mle.contract import Contract, Feature, rules
from mlops_for_mle.serving.codec import check_fields
from mlops_for_mle.serving.context import json_body
from mlops_for_mle.serving.database import Pool, rows
from mlops_for_mle.serving.errors import Faults, ProblemError, refused
from mlops_for_mle.serving.feedback import class_value, target_schema
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

_KEPT = """
WITH old AS (DELETE FROM idempotency_keys WHERE created_at < now() - interval '7 days')
SELECT request_sha256, response FROM idempotency_keys
WHERE table_name = :table AND key = :key AND created_at >= now() - interval '7 days'
"""
_KEEP = """
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
            made, is_replayed = _create(connection, contract, values, idempotency_key)
        answer = _shown(made, 201)
        answer.headers["Location"] = f"{_PREFIX}/{msgspec.json.decode(made)[contract.key]}"
        if is_replayed:
            answer.headers["Idempotency-Replayed"] = "true"
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
            found = _encoded(connection, query.limit(limit + 1))
        following = None
        if len(found) > limit:
            last = msgspec.json.decode(found[limit - 1])[contract.key]
            following = f"{_PREFIX}?limit={limit}&order={order}&after={last}"
        listed = [msgspec.Raw(one) for one in found[:limit]]
        body = msgspec.json.encode({"observations": listed, "next": following})
        return Response(body, media_type=_JSON)

    @routes.get(
        "/{key}",
        summary="Read an observation",
        responses={200: json_answer("The row", _ROW)},
    )
    @reading.endpoint
    def read(key: int) -> Response:
        with reading.begin() as connection:
            return _shown(_find(connection, served_by(services).contract, key))

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
            told = "Send the entity tag of what you have read as If-Match: nobody's change is lost"
            raise ProblemError(428, told)
        contract = served_by(services).contract
        columns = _columns(contract)
        values = _read_body(contract, may_lack=columns)
        if not values:
            raise refused("", "changes nothing", f"some of {', '.join(columns)}", "{}")
        with writing.begin() as connection:
            _find(connection, contract, key, if_match)
            table = _table(contract)
            update = table.update().where(table.c[contract.key] == key).values(values)
            (changed,) = _encoded(connection, update)
        return _shown(changed)

    @routes.delete(
        "/{key}",
        summary="Delete an observation",
        description="With If-Match only as the client has seen it.",
        status_code=204,
    )
    @writing.endpoint
    def delete(key: int, if_match: IfMatch = None) -> Response:
        contract = served_by(services).contract
        with writing.begin() as connection:
            _find(connection, contract, key, "*" if if_match is None else if_match)
            table = _table(contract)
            connection.execute(table.delete().where(table.c[contract.key] == key))
        return Response(status_code=204)

    return routes


def schemas(contract: Contract) -> dict[str, Schema]:
    """The components of the document."""
    new = {name: feature_schema(one) for name, one in _columns(contract).items()}
    new[contract.target.column] = target_schema(contract.target)
    required = [name for name, one in contract.columns.items() if not one.is_optional]
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
    faults, columns, given = Faults(), _columns(contract), json_body()
    name = contract.target.column
    if name in given:
        given[name] = class_value(contract.target, given[name])
    values = check_fields(given, columns, faults, may_lack=may_lack)
    faults.raise_if_any()
    # A time as text would be taken without its offset.
    times = {one for one, column in columns.items() if column.is_time and values.get(one)}
    return values | {one: rules.read_time(values[one]) for one in times}


def _table(contract: Contract) -> "TableClause":
    from sqlalchemy import DateTime, column, table

    features = {contract.key: _KEY, **_columns(contract)}
    typed = [column(name, DateTime if one.is_time else None) for name, one in features.items()]
    return table(contract.table, *typed)


def _encoded(connection: "Connection", statement: Any) -> list[bytes]:
    """The rows that a statement reads or writes, as the JSON that clients get."""
    from sqlalchemy import DateTime, case

    # PostgreSQL knows times that Python does not: infinity, before our era, beyond the year 9999.
    shown = [
        case((one.between(*_TIMES), one)).label(one.name) if isinstance(one.type, DateTime) else one
        for one in (statement.table.c if statement.is_dml else statement.selected_columns)
    ]
    take = statement.returning if statement.is_dml else statement.with_only_columns
    found = connection.execute(take(*shown)).mappings()
    return [_encode({name: _plain(value) for name, value in row.items()}) for row in found]


def _find(
    connection: "Connection", contract: Contract, key: int, if_match: str | None = None
) -> bytes:
    """A row; with the header it is locked, and its present state is one of those named."""
    table = _table(contract)
    statement = table.select().where(table.c[contract.key] == key)
    if if_match is not None:
        statement = statement.with_for_update()
    found = _encoded(connection, statement)
    if not found:
        raise ProblemError(404, f"{contract.table} has no row with {contract.key} {key}")
    tag = _tag(found[0])
    if if_match is not None and {"*", tag}.isdisjoint(one.strip() for one in if_match.split(",")):
        detail = f"The observation was changed meanwhile, its entity tag is {tag}: read it again"
        raise ProblemError(412, detail, headers={"ETag": tag})
    return found[0]


def _create(
    connection: "Connection", contract: Contract, values: Mapping[str, Any], key: str | None
) -> tuple[bytes, bool]:
    """Make a row, at most once for an idempotency key; says whether it had been there."""
    from sqlalchemy import text

    from mlops_for_mle.database.engine import UTC_NOW, lock

    digest = hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()
    if key is not None:
        lock(connection, f"idempotency key {key} of {contract.table}")
        for kept in rows(connection, _KEPT, table=contract.table, key=key):
            if kept["request_sha256"] != digest:
                raise refused("Idempotency-Key", "was used for another request", "a new key", key)
            return kept["response"].encode(), True
    row = {contract.timestamp: text(UTC_NOW), **values}
    (made,) = _encoded(connection, _table(contract).insert().values(row))
    if key is not None:
        given = {"table": contract.table, "key": key, "digest": digest}
        rows(connection, _KEEP, **given, response=made.decode())
    return made, False


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _plain(value: Any) -> Any:
    """A value as JSON has it; times are UTC, which is the zone of the transaction."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC)
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _tag(row: bytes) -> str:
    """The entity tag of a row, which its content tells."""
    return f'"{hashlib.sha256(row).hexdigest()[:32]}"'


def _shown(row: bytes, status: int = 200) -> Response:
    return Response(row, status, {"ETag": _tag(row)}, _JSON)
