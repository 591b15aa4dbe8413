"""``/observations``: the rows of the contract's table as a resource."""

import hashlib
import operator
import re
import sys
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Response

from mlops_for_mle.contract import Contract, Feature, rules
from mlops_for_mle.contract.tables import UTC_NOW
from mlops_for_mle.serving.codec import check_fields
from mlops_for_mle.serving.context import Services, json_body
from mlops_for_mle.serving.database import AWAY, CHANGING
from mlops_for_mle.serving.errors import Faults, ProblemError, refused, shown
from mlops_for_mle.serving.feedback import read_label, target_schema
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
    from sqlalchemy import ColumnElement, Connection, TableClause

_PREFIX, _JSON = "/observations", "application/json"
_OPERATORS = {
    **{">=": operator.ge, "<=": operator.le, "!=": operator.ne},
    **{"=": operator.eq, ">": operator.gt, "<": operator.lt},
}
_TIMESTAMP = Feature(type="timestamp")
# What a filter compares a column with; it may be out of the feature's range.
_NUMBER = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_OPERANDS: dict[str, Any] = {
    "integer": int,
    "boolean": bool,
    "category": Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")],
}
_NAME, _NAME_WORDS = re.compile(r"[\x21-\x7e]{1,255}"), "1 to 255 visible characters of ASCII"

_FORGET = """
DELETE FROM idempotency_keys WHERE (table_name, key) IN (
    SELECT table_name, key FROM idempotency_keys
    WHERE created_at < now() - interval '7 days' LIMIT 100 FOR UPDATE SKIP LOCKED)
"""
# A second request with the same key waits here until the first one has ended.
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
IdempotencyKey = Annotated[
    str | None,
    Header(
        description=f"Names the request: {_NAME_WORDS}",
        json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
    ),
]
Filters = Annotated[
    list[str] | None,
    Query(
        alias="filter",
        max_length=20,
        description="A condition on a column: its name, one of = != < <= > >=, a value, "
        "such as `length>=4.5`. All conditions must hold.",
    ),
]
Order = Annotated[Literal["asc", "desc"], Query(description="desc gives the newest first")]
After = Annotated[int | None, Query(description="The key of the last row of the page before")]


class Observation(NamedTuple):
    """A row as clients get it: its key, its JSON and its entity tag, which the content tells."""

    key: int
    body: bytes
    tag: str

    def answer(self, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """The answer that shows it."""
        return Response(self.body, status, {"ETag": self.tag, **(headers or {})}, _JSON)

    def require(self, if_match: str) -> None:
        """See that the client has seen this state of the row.

        Raises:
            ProblemError: 412.
        """
        if not self.is_among(if_match):
            raise ProblemError(
                HTTPStatus.PRECONDITION_FAILED,
                f"The observation was changed meanwhile, its entity tag is {self.tag}: read it "
                "again",
                headers={"ETag": self.tag},
            )

    def is_among(self, tags: str) -> bool:
        """Whether a header names its tag; weak ones are others."""
        return not {"*", self.tag}.isdisjoint(one.strip() for one in tags.split(","))


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix=_PREFIX, tags=["observations"], default_response_class=Response)
    reading, writing = services.database.reading, services.database.writing
    body = Depends(json_body(services))

    @routes.post(
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
            **problems(CHANGING),
        },
    )
    @writing.endpoint
    def create(document: Annotated[Any, body], idempotency_key: IdempotencyKey = None) -> Response:
        if idempotency_key is not None and not _NAME.fullmatch(idempotency_key):
            raise refused("Idempotency-Key", "is no key", _NAME_WORDS, shown(idempotency_key))
        contract = served_by(services).contract
        values = _read(contract, document, may_lack=(contract.timestamp,))
        with writing.begin() as connection:
            made, is_replayed = _Rows(connection, contract).create(values, idempotency_key)
        replayed = {"Idempotency-Replayed": "true"} if is_replayed else {}
        location = {"Location": f"{_PREFIX}/{made.key}"}
        return made.answer(HTTPStatus.CREATED, location | replayed)

    @routes.get(
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
        filters: Filters = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many rows")] = 50,
        order: Order = "asc",
        after: After = None,
    ) -> Response:
        contract = served_by(services).contract
        conditions = _read_conditions(contract, filters or ())
        if after is not None:
            conditions.append((contract.key, ">" if order == "asc" else "<", after))
        with reading.begin() as connection:
            # One more, which tells whether another page follows.
            found = _Rows(connection, contract).page(conditions, order, limit + 1)
        following = None
        if len(found) > limit:
            query = [("limit", str(limit)), ("order", order), ("after", str(found[limit - 1].key))]
            named = [("filter", one) for one in filters or ()]
            following = f"{_PREFIX}?{urlencode(named + query)}"
        rows = [msgspec.Raw(one.body) for one in found[:limit]]
        listed = msgspec.json.encode({"observations": rows, "next": following})
        headers = {"Link": f'<{following}>; rel="next"'} if following else None
        return Response(listed, media_type=_JSON, headers=headers)

    @routes.get(
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
        with reading.begin() as connection:
            one = _Rows(connection, served_by(services).contract).find(key)
        if one.is_among((if_none_match or "").replace("W/", "")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": one.tag})
        return one.answer()

    @routes.patch(
        "/{key}",
        summary="Change an observation, for example correct its label",
        description="Fields that are left out stay as they are.",
        openapi_extra=json_request(component("ObservationChange")),
        responses={
            200: json_answer("The row as it is now", **_SHOWN),
            **problems(_OF_ONE | {"428": "If-Match is missing"} | CHANGING),
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
        contract = served_by(services).contract
        columns = _columns(contract)
        values = _read(contract, document, may_lack=columns)
        if not values:
            raise refused("", "changes nothing", f"some of {', '.join(columns)}", "{}")
        with writing.begin() as connection:
            rows = _Rows(connection, contract)
            rows.find(key, lock=True).require(if_match)
            update = rows.table.update().where(rows.key == key).values(values)
            (changed,) = rows.run(update.returning(*rows.table.c))
        return changed.answer()

    @routes.delete(
        "/{key}",
        summary="Delete an observation",
        description="With If-Match only as the client has seen it.",
        status_code=HTTPStatus.NO_CONTENT,
        responses={204: {"description": "It is gone"}, **problems(_OF_ONE | CHANGING)},
    )
    @writing.endpoint
    def delete(key: Key, if_match: IfMatch = None) -> Response:
        with writing.begin() as connection:
            rows = _Rows(connection, served_by(services).contract)
            rows.find(key, lock=True).require("*" if if_match is None else if_match)
            connection.execute(rows.table.delete().where(rows.key == key))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return routes


def schemas(contract: Contract | None) -> dict[str, Schema]:
    """The components of the document; any object where no release is in service."""
    if contract is None:
        names = ("NewObservation", "ObservationChange", "Observation")
        return {name: {"type": "object"} for name in names}
    columns = _columns(contract)
    new = {name: feature_schema(one) for name, one in columns.items()}
    new[contract.target.column] = target_schema(contract.target)
    required = [name for name, one in contract.columns.items() if not one.is_optional]
    change = object_of(new, []) | {"minProperties": 1}
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
    kinds = {"boolean": "boolean", "category": "string", "integer": "integer"}
    return {"type": [kinds.get(_kind(feature), "number"), "null"]}


def _columns(contract: Contract) -> dict[str, Feature]:
    """What may be written, in the order of the table."""
    return {contract.timestamp: _TIMESTAMP, **contract.columns}


def _kind(feature: Feature) -> str:
    return "integer" if feature.has_integer_categories else feature.type


def _read(
    contract: Contract, document: Mapping[str, Any], may_lack: Container[str]
) -> dict[str, Any]:
    """The columns of a body with their values as the table takes them."""
    faults, target, name = Faults(), contract.target, contract.target.column
    others = {one: feature for one, feature in _columns(contract).items() if one != name}
    given = {one: value for one, value in document.items() if one != name}
    values = check_fields(given, others, faults, may_lack=may_lack)
    if name in document or name not in may_lack:
        values[name] = read_label(target, document.get(name), name, faults)
    faults.raise_if_any()
    columns = _columns(contract)
    return {one: _typed(value, columns[one]) for one, value in values.items()}


def _typed(value: Any, feature: Feature) -> Any:
    if value is None:
        return None
    if feature.is_time:
        time = rules.read_time(value)
        return time.date() if feature.type == "date" else time
    return int(value) if _kind(feature) == "integer" else value


Condition = tuple[str, str, Any]
"""A column, an operator, a value."""


def _read_conditions(contract: Contract, given: Sequence[str]) -> list[Condition]:
    """Read filters, all of which must hold."""
    faults = Faults()
    found: list[Condition] = []
    columns = {contract.key: Feature(type="integer"), **_columns(contract)}
    # The longest name first, since one may be the beginning of another.
    names = "|".join(map(re.escape, sorted(columns, key=len, reverse=True)))
    form = re.compile(rf"({names})\s*({'|'.join(_OPERATORS)})\s*(.*?)\s*", re.DOTALL)
    for text in given:
        parts = form.fullmatch(text)
        if parts is None:
            wanted = f"a column, one of {' '.join(_OPERATORS)}, a value; columns: "
            faults.add("filter", "is no condition", wanted + ", ".join(columns), text)
            continue
        name, comparison, written = parts.groups()
        try:
            value = _operand(contract, name, columns[name], written)
        except (KeyError, ValueError):
            message = f"compares {name} with something else"
            faults.add("filter", message, rules.describe(columns[name]), written)
        else:
            found.append((name, comparison, value))
    faults.raise_if_any()
    return found


def _operand(contract: Contract, name: str, feature: Feature, written: str) -> Any:
    """What a column is compared with; it may be out of the feature's range."""
    classes = contract.target.classes
    if name == contract.target.column and classes:
        values = {one.label: one.value for one in classes}
        return (values | {str(one.value): one.value for one in classes})[written]
    if feature.is_time:
        # A plus sign in a URL is a space, unless the client has written %2B.
        return rules.read_time(written.replace(" ", "+") if "T" in written else written)
    return msgspec.convert(written, _OPERANDS.get(_kind(feature), _NUMBER), strict=False)


class _Rows:
    """The contract's table in one transaction."""

    def __init__(self, connection: "Connection", contract: Contract) -> None:
        import sqlalchemy

        self._connection, self._contract = connection, contract
        names = (contract.key, *_columns(contract))
        self.table: TableClause = sqlalchemy.table(contract.table, *map(sqlalchemy.column, names))
        self.key: ColumnElement[int] = self.table.c[contract.key]
        self._text, self._literal = sqlalchemy.text, sqlalchemy.literal

    def find(self, key: int, *, lock: bool = False) -> Observation:
        """Read a row."""
        statement = self.table.select().where(self.key == key)
        for found in self.run(statement.with_for_update() if lock else statement):
            return found
        contract = self._contract
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"{contract.table} has no row with {contract.key} {key}"
        )

    def page(self, conditions: Sequence[Condition], order: str, limit: int) -> list[Observation]:
        """Rows in the order of their keys, at most so many."""
        wanted = (
            _OPERATORS[comparison](self.table.c[name], self._literal(value))
            for name, comparison, value in conditions
        )
        key = self.key.asc() if order == "asc" else self.key.desc()
        return self.run(self.table.select().where(*wanted).order_by(key).limit(limit))

    def create(self, values: Mapping[str, Any], name: str | None) -> tuple[Observation, bool]:
        """Make a row, at most once for an idempotency key; says whether it had been there."""
        execute, text = self._connection.execute, self._text
        digest = hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()
        given = {"table": self._contract.table, "key": name, "digest": digest}
        if name is not None:
            execute(text(_FORGET))
            if not execute(text(_RESERVE), given).rowcount:
                kept = execute(text(_RESERVED), given).one()
                if kept.request_sha256 != digest:
                    message = "was used for another request"
                    raise refused("Idempotency-Key", message, "a new key", name)
                body = str(kept.response).encode()
                return _observation(msgspec.json.decode(body)[self._contract.key], body), True
        row = {self._contract.timestamp: text(UTC_NOW), **values}
        (made,) = self.run(self.table.insert().values(row).returning(*self.table.c))
        if name is not None:
            execute(text(_COMPLETE), given | {"response": made.body.decode()})
        return made, False

    def run(self, statement: Any) -> list[Observation]:
        """The rows that a statement gives."""
        names = self.table.c.keys()
        found = (
            dict(zip(names, map(_plain, row), strict=True))
            for row in self._connection.execute(statement)
        )
        return [_observation(row[self._contract.key], _encode(row)) for row in found]


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _plain(value: Any) -> Any:
    """A value as JSON has it; times are UTC, which is the zone of the transaction."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC)
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _observation(key: int, body: bytes) -> Observation:
    return Observation(key, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
