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

from mlops_for_mle.contract import Contract, Feature, Target, rules
from mlops_for_mle.contract.tables import UTC_NOW, quoted
from mlops_for_mle.serving.codec import check_fields
from mlops_for_mle.serving.context import Services, json_body
from mlops_for_mle.serving.database import AWAY
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
_BIGINTS = 2**63
_TIMESTAMP = Feature(type="timestamp")
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_ANY_TAG = frozenset({"*"})
_NAME, _NAME_WORDS = re.compile(r"[\x21-\x7e]{1,255}"), "1 to 255 visible characters of ASCII"

# Names stand in these, values never do.
_SELECT = "SELECT {row} FROM {table} WHERE {key} = %s {lock}"
_LIST = "SELECT {row} FROM {table} WHERE {wanted} ORDER BY {key} {order} LIMIT {limit}"
_INSERT = "INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING {row}"
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

_WRITING = {
    "409": "A rule of the table forbids it",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "It does not fit the contract; names every field that is wrong",
    **AWAY,
}
_OF_ONE = {"404": "There is no such row", "412": "It was changed meanwhile"}
_SHOWN: dict[str, Any] = {
    "schema": component("Observation"),
    "ETag": "The entity tag, for If-Match",
}

Key = Annotated[int, Path(description="The row's primary key")]
IfMatch = Annotated[
    str | None,
    Header(description="The entity tag that the client has seen, several of them, or *"),
]
Order = Literal["asc", "desc"]
Condition = tuple[str, str, Any]
"""A column, an operator, a value."""

_encode_values = msgspec.json.Encoder(order="deterministic").encode
_encode_row = msgspec.json.Encoder(decimal_format="number").encode


class Observation(NamedTuple):
    """A row as clients get it: its key, its JSON and its entity tag, which the content tells."""

    key: int
    body: bytes
    tag: str


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter(prefix=_PREFIX, tags=["observations"], default_response_class=Response)
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
        openapi_extra=json_request(component("NewObservation")),
        responses={
            201: json_answer(
                "The new row",
                **_SHOWN,
                Location="Its path",
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
            made, is_replayed = _Table(connection, known).create(values, idempotency_key)
        headers = {"Location": f"{_PREFIX}/{made.key}"}
        if is_replayed:
            headers["Idempotency-Replayed"] = "true"
        return _answer(made, HTTPStatus.CREATED, headers)

    @found.get(
        "",
        summary="List observations",
        description="In the order of their keys. A page that is not the last one names the next "
        "one in `next` and in the header Link.",
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
            **problems({"422": "A parameter is wrong", **AWAY}),
        },
    )
    @reading.endpoint
    def page(
        conditions: Annotated[
            list[str] | None,
            Query(
                alias="filter",
                max_length=20,
                description="A condition on a column: its name, one of = != < <= > >=, a value, "
                "such as `length>=4.5`. All conditions must hold.",
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many rows")] = 50,
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
            wanted.append((known.key, ">" if order == "asc" else "<", after))
        with reading.begin() as connection:
            # One more, which tells whether another page follows.
            rows = _Table(connection, known).page(wanted, order, limit + 1)
        return _listed(rows, conditions or (), limit, order)

    @found.get(
        "/{key}",
        summary="Read an observation",
        responses={
            200: json_answer("The row", **_SHOWN),
            304: {"description": "It is as the client has seen it (If-None-Match)"},
            **problems({"404": _OF_ONE["404"], "422": "The key is no number", **AWAY}),
        },
    )
    @reading.endpoint
    def read(key: Key, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        known = contract()
        with reading.begin() as connection:
            one = _Table(connection, known).find(key)
        if _matches(one, _tags(if_none_match, weak=True)):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": one.tag})
        return _answer(one)

    @found.patch(
        "/{key}",
        summary="Change an observation, for example correct its label",
        description="Fields that are left out stay as they are.",
        openapi_extra=json_request(component("ObservationChange")),
        responses={
            200: json_answer("The row as it is now", **_SHOWN),
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
        columns = _columns(known)
        changes = _read(known, document, may_lack=columns)
        if not changes:
            raise refused("", "changes nothing", f"some of {', '.join(columns)}", "{}")
        with writing.begin() as connection:
            table = _Table(connection, known)
            _require(table.find(key, "FOR UPDATE"), _tags(if_match))
            changed = table.change(key, changes)
        return _answer(changed)

    @found.delete(
        "/{key}",
        summary="Delete an observation",
        description="With If-Match only as the client has seen it.",
        status_code=HTTPStatus.NO_CONTENT,
        responses={204: {"description": "It is gone"}, **problems(_OF_ONE | _WRITING)},
    )
    @writing.endpoint
    def delete(key: Key, if_match: IfMatch = None) -> Response:
        known = contract()
        with writing.begin() as connection:
            table = _Table(connection, known)
            _require(table.find(key, "FOR UPDATE"), _tags("*" if if_match is None else if_match))
            table.rows(_DELETE, [key])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return found


def schemas(contract: Contract | None) -> dict[str, Schema]:
    """The components of the document; any object where no release is in service."""
    if contract is None:
        names = ("NewObservation", "ObservationChange", "Observation")
        return {name: {"type": "object"} for name in names}
    columns = _columns(contract)
    new = {name: feature_schema(one) for name, one in columns.items()}
    new[contract.target.column] = target_schema(contract.target)
    required = [name for name, one in contract.columns.items() if not one.is_optional]
    change = object_of(new) | {"minProperties": 1}
    del change["required"]
    stored = {name: _stored_schema(one) for name, one in columns.items()}
    return {
        "NewObservation": object_of(new, required),
        "ObservationChange": change,
        "Observation": object_of({contract.key: {"type": "integer"}, **stored}),
    }


def _stored_schema(feature: Feature) -> Schema:
    """The schema of what is read: another program may have written it, so there are no ranges."""
    if feature.is_time:
        form = "date" if feature.type == "date" else "date-time"
        return {"type": ["string", "null"], "format": form}
    kind = {"integer": "integer", "boolean": "boolean", "category": "string"}.get(feature.type)
    kind = "integer" if feature.has_integer_categories else kind
    return {"type": [kind or "number", "null"]}


def _columns(contract: Contract) -> dict[str, Feature]:
    """What may be written, in the order of the table."""
    return {contract.timestamp: _TIMESTAMP, **contract.columns}


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
    if feature.is_time:
        time = rules.read_time(value)
        return time.date() if feature.type == "date" else time
    return int(value) if feature.type == "integer" else value


def _read_conditions(contract: Contract, given: Sequence[str]) -> list[Condition]:
    """Read filters, all of which must hold.

    Raises:
        ProblemError: 422, names each that is wrong.
    """
    faults = Faults()
    found: list[Condition] = []
    columns = {contract.key: Feature(type="integer"), **_columns(contract)}
    # The longest name first, since one may be the beginning of another.
    names = sorted(columns, key=len, reverse=True)
    for text in given:
        name = next((one for one in names if text.startswith(one)), "")
        rest = text[len(name) :].lstrip()
        operator = next((one for one in _OPERATORS if rest.startswith(one)), "")
        if not (name and operator):
            wanted = f"a column, one of {' '.join(_OPERATORS)}, a value; columns: "
            faults.add("filter", "is no condition", wanted + ", ".join(columns), text)
            continue
        written, feature = rest[len(operator) :].strip(), columns[name]
        try:
            if name == contract.target.column:
                value = _read_target(written, contract.target)
            else:
                value = _read_value(written, feature)
        except (KeyError, ValueError):
            message = f"compares {name} with something else"
            faults.add("filter", message, rules.describe(feature), written)
        else:
            found.append((name, operator, value))
    faults.raise_if_any()
    return found


def _read_target(text: str, target: Target) -> Any:
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
    if feature.type == "boolean":
        return {"true": True, "false": False}[text]
    if feature.is_time:
        # A plus sign in a URL is a space, unless the client has written %2B.
        return rules.read_time(text.replace(" ", "+") if "T" in text else text)
    if feature.type == "integer" or feature.has_integer_categories:
        value: float | str = int(text)
        is_allowed = -_BIGINTS <= int(text) < _BIGINTS
    elif feature.is_number:
        value = float(text)
        is_allowed = math.isfinite(value)
    else:
        value, is_allowed = text, "\x00" not in text
    if not is_allowed:
        raise ValueError
    return value


class _Table:
    """The contract's table in one transaction."""

    def __init__(self, connection: "Connection", contract: Contract) -> None:
        self._connection, self._contract = connection, contract
        self._names = (contract.key, *_columns(contract))

    def rows(self, statement: str, values: Sequence[Any], **parts: object) -> list[Observation]:
        """What a statement gives."""
        filled = statement.format(
            table=_quoted(self._contract.table),
            key=_quoted(self._contract.key),
            row=", ".join(map(_quoted, self._names)),
            **parts,
        )
        return [
            _observation(row[0], _encode_row(dict(zip(self._names, map(_plain, row), strict=True))))
            for row in self._connection.exec_driver_sql(filled, tuple(values))
        ]

    def find(self, key: int, lock: str = "") -> Observation:
        """Read a row.

        Raises:
            ProblemError: 404, there is none with this key.
        """
        is_possible = -_BIGINTS <= key < _BIGINTS
        for found in self.rows(_SELECT, [key], lock=lock) if is_possible else ():
            return found
        contract = self._contract
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"{contract.table} has no row with {contract.key} {key}"
        )

    def page(self, conditions: Sequence[Condition], order: Order, limit: int) -> list[Observation]:
        """Rows in the order of their keys, at most so many."""
        wanted = " AND ".join(f"{_quoted(name)} {operator} %s" for name, operator, _ in conditions)
        values = [value for *_, value in conditions]
        return self.rows(_LIST, values, wanted=wanted or "true", order=order, limit=limit)

    def change(self, key: int, changes: Mapping[str, Any]) -> Observation:
        """Change columns of a row that is there."""
        changed = ", ".join(f"{_quoted(name)} = %s" for name in changes)
        return self.rows(_UPDATE, [*changes.values(), key], changes=changed)[0]

    def create(self, values: Mapping[str, Any], name: str | None) -> tuple[Observation, bool]:
        """Insert a row, at most once for an idempotency key; says whether it had been there.

        Raises:
            ProblemError: 422, the key was used for another request.
        """
        from sqlalchemy import text

        execute, timestamp = self._connection.execute, self._contract.timestamp
        given = {"table": self._contract.table, "key": name}
        if name is not None:
            execute(text(_FORGET))
            digest = hashlib.sha256(_encode_values(values)).hexdigest()
            # A second request with the same key waits here until the first one has ended.
            if not execute(text(_RESERVE), given | {"digest": digest}).rowcount:
                kept = execute(text(_RESERVED), given).one()
                if kept.request_sha256 != digest:
                    message = "was used for another request"
                    raise refused("Idempotency-Key", message, "a new key", name)
                body = str(kept.response).encode()
                return _observation(msgspec.json.decode(body)[self._contract.key], body), True
        columns, marks = list(values), ["%s"] * len(values)
        if timestamp not in values:
            columns.append(timestamp)
            marks.append(UTC_NOW)
        parts = {"columns": ", ".join(map(_quoted, columns)), "marks": ", ".join(marks)}
        (made,) = self.rows(_INSERT, list(values.values()), **parts)
        if name is not None:
            execute(text(_COMPLETE), given | {"response": made.body.decode()})
        return made, False


def _quoted(name: str) -> str:
    """A name in a statement with marks for values."""
    return quoted(name).replace("%", "%%")


def _plain(value: Any) -> Any:
    """A value as JSON has it; times are UTC, which is the zone of the transaction."""
    if isinstance(value, datetime):
        time = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return f"{time.isoformat()}Z"
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _observation(key: int, body: bytes) -> Observation:
    return Observation(key, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _answer(
    one: Observation, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(one.body, status, {"ETag": one.tag, **(headers or {})}, _JSON)


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


def _tags(header: str | None, *, weak: bool = False) -> frozenset[str]:
    """The entity tags of a header; weak ones match only where that is allowed (RFC 9110)."""
    if header is not None and header.strip() == "*":
        return _ANY_TAG
    found = _ETAG.findall(header or "")
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
