"""``/observations``: the rows of the contract's table as a resource."""

import hashlib
import math
import re
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Response

from mlops_for_mle.contract import Contract, Feature, Target
from mlops_for_mle.contract.rules import describe, read_time
from mlops_for_mle.contract.tables import UTC_NOW, quoted
from mlops_for_mle.serving.codec import check_fields
from mlops_for_mle.serving.context import Services, json_body
from mlops_for_mle.serving.errors import Faults, ProblemError, refused, shown
from mlops_for_mle.serving.feedback import label_fault, read_label, target_schema
from mlops_for_mle.serving.openapi import (
    Schema,
    component,
    feature_schema,
    json_answer,
    json_request,
    object_of,
    problems,
)
from mlops_for_mle.serving.predict import served_by

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PREFIX, _JSON = "/observations", "application/json"
_OPERATORS = (">=", "<=", "!=", "=", ">", "<")
_MOST_FILTERS, _MOST_ROWS = 20, 1000
_BIGINTS = 2**63
_TAG = re.compile(r'(?:W/)?"[^"]*"')
_TAG_WORDS = "The entity tag, for If-Match"
_NAME = re.compile(r"[\x21-\x7e]{1,255}")
_NAME_WORDS = "1 to 255 visible characters of ASCII"
_TIME = Feature(type="timestamp")
_STORED: Mapping[str, Any] = {"integer": int, "boolean": bool, "category": str}
_ANY_TAG = frozenset({"*"})

_AWAY = {
    "429": "Too many such requests wait already",
    "503": "No release is loaded, or the database does not answer",
}
_WRITING = {
    "409": "A rule of the table forbids it",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "It does not fit the contract; names every field that is wrong",
    **_AWAY,
}
_OF_ONE = {"404": "There is no such row", "412": "It was changed meanwhile"}

_SELECT = "SELECT {row} FROM {table} WHERE {key} = %s {lock}"
_LIST = "SELECT {row} FROM {table} WHERE {wanted} ORDER BY {key} {order} LIMIT {limit}"
_INSERT = "INSERT INTO {table} ({columns}) VALUES ({values}) RETURNING {row}"
_UPDATE = "UPDATE {table} SET {changes} WHERE {key} = %s RETURNING {row}"
_DELETE = "DELETE FROM {table} WHERE {key} = %s RETURNING {row}"

_FORGET = """
DELETE FROM idempotency_keys WHERE (table_name, key) IN (
    SELECT table_name, key FROM idempotency_keys
    WHERE created_at < now() - interval '7 days' LIMIT 100 FOR UPDATE SKIP LOCKED)
"""
_RESERVE = """
INSERT INTO idempotency_keys (table_name, key, request_sha256) VALUES (:table, :key, :digest)
ON CONFLICT DO NOTHING
"""
_RESERVED = """
SELECT request_sha256, response FROM idempotency_keys WHERE table_name = :table AND key = :key
"""
_COMPLETE = """
UPDATE idempotency_keys SET response = :response WHERE table_name = :table AND key = :key
"""

_encode_values = msgspec.json.Encoder(order="deterministic").encode
_encode_row = msgspec.json.Encoder(decimal_format="number").encode

Key = Annotated[int, Path(description="The row's primary key")]
IfMatch = Annotated[
    str | None,
    Header(description="The entity tag that the client has seen, several of them, or *"),
]
Order = Literal["asc", "desc"]


class Observation(NamedTuple):
    """A row as clients get it; the same content always has the same entity tag."""

    key: int
    body: bytes
    tag: str


class Condition(NamedTuple):
    """One filter of a list."""

    column: str
    operator: str
    value: Any


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter(prefix=_PREFIX, tags=["observations"])
    reading, writing = services.database.reading, services.database.writing
    body = Depends(json_body(services))

    def contract() -> Contract:
        return served_by(services).contract

    @found.post(
        "",
        summary="Create an observation",
        description="With an Idempotency-Key the same request can be sent again, for seven days, "
        "and is answered as it was the first time, without another row.",
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        openapi_extra=json_request(component("NewObservation")),
        responses={
            201: json_answer(
                "The new row",
                component("Observation"),
                Location="Its path",
                ETag=_TAG_WORDS,
                Idempotency_Replayed="true where an earlier request had made the row",
            ),
            **problems(_WRITING),
        },
    )
    @writing.endpoint
    def create(
        document: Annotated[Any, body],
        idempotency_key: Annotated[
            str | None,
            Header(
                description=f"Names the request: {_NAME_WORDS}",
                json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
            ),
        ] = None,
    ) -> Response:
        if idempotency_key is not None and not _NAME.fullmatch(idempotency_key):
            raise refused("Idempotency-Key", "is no key", _NAME_WORDS, shown(idempotency_key))
        known = contract()
        values = _read(known, document, may_lack=(known.timestamp,))
        with writing.begin() as connection:
            made, is_replayed = _create(connection, known, values, idempotency_key)
        headers = {"Location": f"{_PREFIX}/{made.key}"}
        if is_replayed:
            headers["Idempotency-Replayed"] = "true"
        return _answer(made, HTTPStatus.CREATED, headers)

    @found.get(
        "",
        summary="List observations",
        description="In the order of their keys. A page that is not the last one names the next "
        "one in `next` and in the header Link.",
        response_class=Response,
        responses={
            200: json_answer(
                "A page",
                object_of(
                    {
                        "observations": {"type": "array", "items": component("Observation")},
                        "next": {"type": ["string", "null"]},
                    }
                ),
                Link="The next page",
            ),
            **problems({"422": "A parameter is wrong", **_AWAY}),
        },
    )
    @reading.endpoint
    def page(
        conditions: Annotated[
            list[str] | None,
            Query(
                alias="filter",
                max_length=_MOST_FILTERS,
                description="A condition on a column: its name, one of = != < <= > >=, a value, "
                "such as `length>=4.5`. All conditions must hold.",
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=_MOST_ROWS, description="How many rows")] = 50,
        order: Annotated[Order, Query(description="desc gives the newest first")] = "asc",
        after: Annotated[
            int | None,
            Query(
                ge=-_BIGINTS,
                lt=_BIGINTS,
                description="The key of the last row of the page before",
            ),
        ] = None,
    ) -> Response:
        known = contract()
        wanted = _read_conditions(known, conditions or ())
        if after is not None:
            wanted.append(Condition(known.key, ">" if order == "asc" else "<", after))
        with reading.begin() as connection:
            # One more, which tells whether another page follows.
            rows = _page(connection, known, wanted, order, limit + 1)
        return _listed(rows, conditions or (), limit, order)

    @found.get(
        "/{key}",
        summary="Read an observation",
        response_class=Response,
        responses={
            200: json_answer("The row", component("Observation"), ETag=_TAG_WORDS),
            304: {"description": "It is as the client has seen it (If-None-Match)"},
            **problems({"404": _OF_ONE["404"], "422": "The key is no number", **_AWAY}),
        },
    )
    @reading.endpoint
    def read(key: Key, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        known = contract()
        with reading.begin() as connection:
            one = _find(connection, known, key)
        if _matches(one, _tags(if_none_match, weak=True)):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": one.tag})
        return _answer(one)

    @found.patch(
        "/{key}",
        summary="Change an observation, for example correct its label",
        description="Fields that are left out stay as they are.",
        response_class=Response,
        openapi_extra=json_request(component("ObservationChange")),
        responses={
            200: json_answer("The row as it is now", component("Observation"), ETag=_TAG_WORDS),
            **problems(_OF_ONE | {"428": "If-Match is missing"} | _WRITING),
        },
    )
    @writing.endpoint
    def change(key: Key, document: Annotated[Any, body], if_match: IfMatch = None) -> Response:
        if if_match is None:
            raise ProblemError(
                HTTPStatus.PRECONDITION_REQUIRED,
                "Send the entity tag of the observation that you have read as If-Match, so that "
                "nobody's change is lost",
            )
        known = contract()
        changes = _read(known, document, may_lack=_columns(known))
        if not changes:
            raise refused("", "changes nothing", f"some of {', '.join(_columns(known))}", "{}")
        with writing.begin() as connection:
            _require(_find(connection, known, key, "FOR UPDATE"), _tags(if_match))
            changed = _change(connection, known, key, changes)
        return _answer(changed)

    @found.delete(
        "/{key}",
        summary="Delete an observation",
        description="With If-Match only as the client has seen it.",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses={204: {"description": "It is gone"}, **problems(_OF_ONE | _WRITING)},
    )
    @writing.endpoint
    def delete(key: Key, if_match: IfMatch = None) -> Response:
        known = contract()
        with writing.begin() as connection:
            seen = _ANY_TAG if if_match is None else _tags(if_match)
            _require(_find(connection, known, key, "FOR UPDATE"), seen)
            _execute(connection, known, _DELETE, [key])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return found


def schemas(contract: Contract | None) -> dict[str, Schema]:
    """The components of the document; any object where no release is in service."""
    if contract is None:
        names = ("NewObservation", "ObservationChange", "Observation")
        return {name: {"type": "object"} for name in names}
    new = {name: feature_schema(one) for name, one in _columns(contract).items()}
    new[contract.target.column] = target_schema(contract.target)
    required = [name for name, one in contract.columns.items() if not one.is_optional]
    stored = {name: _stored_schema(one) for name, one in _columns(contract).items()}
    change = object_of(new) | {"minProperties": 1}
    del change["required"]
    return {
        "NewObservation": object_of(new, required),
        "ObservationChange": change,
        # Another program may have written it, so it says nothing of ranges.
        "Observation": object_of({contract.key: {"type": "integer"}, **stored}),
    }


def _stored_schema(feature: Feature) -> Schema:
    kind = int if feature.has_integer_categories else _STORED.get(feature.type, float)
    if not feature.is_time:
        return msgspec.json.schema(kind | None)
    form = "date" if feature.type == "date" else "date-time"
    return {"type": ["string", "null"], "format": form}


def _columns(contract: Contract) -> dict[str, Feature]:
    """What may be written, in the order of the table."""
    return {contract.timestamp: _TIME, **contract.columns}


def _read(
    contract: Contract, document: Mapping[str, Any], may_lack: Container[str]
) -> dict[str, Any]:
    """The columns of a body with their values as the table takes them.

    Raises:
        ProblemError: 422, names every field that is wrong.
    """
    target, columns, faults = contract.target, _columns(contract), Faults()
    label = read_label(target, document.get(target.column))
    if target.column in document:
        document = {**document, target.column: label}
    values = check_fields(document, columns, faults, may_lack=may_lack)
    if wrong := label_fault(target, label):
        faults.found = [
            one._replace(message=wrong[0], allowed=wrong[1]) if one.path == target.column else one
            for one in faults.found
        ]
    faults.raise_if_any()
    return {name: _typed(value, columns[name]) for name, value in values.items()}


def _typed(value: Any, feature: Feature) -> Any:
    if value is None:
        return None
    if feature.type == "integer":
        return int(value)
    if feature.is_time:
        time = read_time(value)
        return time.date() if feature.type == "date" else time
    return value


def _read_conditions(contract: Contract, given: Sequence[str]) -> list[Condition]:
    """Read filters, all of which must hold.

    Raises:
        ProblemError: 422, names each that is wrong.
    """
    faults, found = Faults(), []
    columns = {contract.key: Feature(type="integer"), **_columns(contract)}
    # The longest name first, since one may be the beginning of another.
    names = sorted(columns, key=len, reverse=True)
    for text in given:
        name = next((one for one in names if text.startswith(one)), "")
        rest = text[len(name) :].lstrip()
        operator = next((one for one in _OPERATORS if rest.startswith(one)), None)
        if not name or operator is None:
            wanted = f"a column, one of {' '.join(_OPERATORS)}, a value; columns: "
            faults.add("filter", "is no condition", wanted + ", ".join(columns), text)
            continue
        written = rest[len(operator) :].strip()
        try:
            if name == contract.target.column:
                value = _read_target(contract.target, written)
            else:
                value = _read_value(written, columns[name])
            found.append(Condition(name, operator, value))
        except (KeyError, ValueError):
            allowed = describe(columns[name])
            faults.add("filter", f"compares {name} with something else", allowed, written)
    faults.raise_if_any()
    return found


def _read_target(target: Target, text: str) -> Any:
    value = read_label(target, text)
    if value is text and not target.has_text_classes:
        value = _read_value(text, target.feature)
    if target.classes and value not in target.codes:
        raise ValueError
    return value


def _read_value(text: str, feature: Feature) -> Any:
    """What a column is compared with; it may be out of the feature's range.

    Raises:
        ValueError: It is of another type.
        KeyError: It is no boolean.
    """
    if feature.type == "integer" or feature.has_integer_categories:
        whole = int(text)
        if not -_BIGINTS <= whole < _BIGINTS:
            raise ValueError
        return whole
    if feature.type == "boolean":
        return {"true": True, "false": False}[text]
    if feature.is_time:
        # A plus sign in a URL is a space, unless the client has written %2B.
        return read_time(text.replace(" ", "+") if "T" in text else text)
    if feature.is_number:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    # Postgres holds no NUL.
    if "\x00" in text:
        raise ValueError
    return text


def _create(
    connection: "Connection", contract: Contract, values: Mapping[str, Any], name: str | None
) -> tuple[Observation, bool]:
    """Insert a row, at most once for an idempotency key; says whether an earlier request did.

    Raises:
        ProblemError: 422, the key was used for another request.
    """
    from sqlalchemy import text

    given = {"table": contract.table, "key": name}
    if name is not None:
        connection.execute(text(_FORGET))
        digest = hashlib.sha256(_encode_values(values)).hexdigest()
        # A second request with the same key waits here until the first one has ended.
        if not connection.execute(text(_RESERVE), given | {"digest": digest}).rowcount:
            kept = connection.execute(text(_RESERVED), given).one()
            if kept.request_sha256 != digest:
                raise refused("Idempotency-Key", "was used for another request", "a new key", name)
            body = str(kept.response).encode()
            return _observation(int(msgspec.json.decode(body)[contract.key]), body), True
    made = _insert(connection, contract, values)
    if name is not None:
        connection.execute(text(_COMPLETE), given | {"response": made.body.decode()})
    return made, False


def _insert(connection: "Connection", contract: Contract, values: Mapping[str, Any]) -> Observation:
    columns, marks = [_quoted(one) for one in values], ["%s"] * len(values)
    if contract.timestamp not in values:
        columns.append(_quoted(contract.timestamp))
        marks.append(UTC_NOW)
    parts = {"columns": ", ".join(columns), "values": ", ".join(marks)}
    return _execute(connection, contract, _INSERT, list(values.values()), **parts)[0]


def _find(connection: "Connection", contract: Contract, key: int, lock: str = "") -> Observation:
    """Read a row.

    Raises:
        ProblemError: 404, there is none with this key.
    """
    found = []
    if -_BIGINTS <= key < _BIGINTS:
        found = _execute(connection, contract, _SELECT, [key], lock=lock)
    if not found:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"{contract.table} has no row with {contract.key} {key}"
        )
    return found[0]


def _page(
    connection: "Connection",
    contract: Contract,
    conditions: Sequence[Condition],
    order: Order,
    limit: int,
) -> list[Observation]:
    wanted = " AND ".join(f"{_quoted(one.column)} {one.operator} %s" for one in conditions)
    parts = {"wanted": wanted or "true", "order": order, "limit": limit}
    return _execute(connection, contract, _LIST, [one.value for one in conditions], **parts)


def _change(
    connection: "Connection", contract: Contract, key: int, changes: Mapping[str, Any]
) -> Observation:
    changed = ", ".join(f"{_quoted(name)} = %s" for name in changes)
    values = [*changes.values(), key]
    return _execute(connection, contract, _UPDATE, values, changes=changed)[0]


def _execute(
    connection: "Connection",
    contract: Contract,
    statement: str,
    values: Sequence[Any],
    **parts: object,
) -> list[Observation]:
    """The rows that a statement gives; names stand in it, values never do."""
    names = (contract.key, *_columns(contract))
    filled = statement.format(
        table=_quoted(contract.table),
        key=_quoted(contract.key),
        row=", ".join(map(_quoted, names)),
        **parts,
    )
    return [
        _observation(row[0], _encode_row(dict(zip(names, map(_plain, row), strict=True))))
        for row in connection.exec_driver_sql(filled, tuple(values))
    ]


def _quoted(name: str) -> str:
    """A name of SQL in a statement with marks for values."""
    return quoted(name).replace("%", "%%")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        # With a zone in UTC, which is the zone of the transaction.
        time = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return f"{time.isoformat()}Z"
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    return value


def _observation(key: int, body: bytes) -> Observation:
    return Observation(key, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _listed(
    rows: Sequence[Observation], conditions: Sequence[str], limit: int, order: Order
) -> Response:
    following: str | None = None
    headers = {}
    if len(rows) > limit:
        query = [("filter", one) for one in conditions]
        query += [("limit", str(limit)), ("order", order), ("after", str(rows[limit - 1].key))]
        following = f"{_PREFIX}?{urlencode(query)}"
        headers["Link"] = f'<{following}>; rel="next"'
    listed = {"observations": [msgspec.Raw(one.body) for one in rows[:limit]], "next": following}
    return Response(msgspec.json.encode(listed), media_type=_JSON, headers=headers)


def _answer(
    one: Observation, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(one.body, status, {"ETag": one.tag, **(headers or {})}, _JSON)


def _tags(header: str | None, *, weak: bool = False) -> frozenset[str]:
    """The entity tags of a header; weak ones match only where that is allowed (RFC 9110)."""
    if header is not None and header.strip() == "*":
        return _ANY_TAG
    found = _TAG.findall(header or "")
    return frozenset(one.removeprefix("W/") for one in found if weak or not one.startswith("W/"))


def _matches(one: Observation, tags: frozenset[str]) -> bool:
    return "*" in tags or one.tag in tags


def _require(one: Observation, tags: frozenset[str]) -> None:
    if not _matches(one, tags):
        raise ProblemError(
            HTTPStatus.PRECONDITION_FAILED,
            f"The observation was changed meanwhile, its entity tag is {one.tag}: read it again",
            headers={"ETag": one.tag},
        )
