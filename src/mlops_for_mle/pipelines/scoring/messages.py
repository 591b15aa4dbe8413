"""Reads the row in a Kafka message: a JSON object, or one in the envelope of Kafka Connect.

Kafka Connect's JsonConverter writes ``{"schema": …, "payload": {…}}``; with the JDBC source
connector the payload is a row of a table. Types that JSON has not are told by the schema.
"""

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.rules import read_time
from mlops_for_mle.pipelines.scoring.following import Arrived

_ENVELOPE = frozenset({"schema", "payload"})
_BIGINT = range(-(2**63), 2**63)


def arrived(message: Message, contract: Contract) -> Arrived:
    """The row in a message, or what is wrong with it.

    It has the time of its row or else its own; its key is that of the contract's table, if any.
    """
    place = f"kafka:{message.topic()}/{message.partition()}", message.offset() or 0
    value = message.value()
    try:
        values = read_row(value, contract)
        time = _time(values.get(contract.timestamp))
    except ValueError as error:
        return Arrived(*place, (value or b"").decode(errors="replace"), fault=str(error))
    kind, milliseconds = message.timestamp()
    if time is None and kind != TIMESTAMP_NOT_AVAILABLE:
        time = _utc(milliseconds=milliseconds)
    key = values.get(contract.key)
    # A boolean is an int of Python's, too.
    is_key = type(key) is int and key in _BIGINT
    return Arrived(*place, values, time, key if is_key else None)


def read_row(value: bytes | None, contract: Contract) -> dict[str, Any]:
    """The columns in the value of a message; which of them are allowed is not looked at.

    Raises:
        ValueError: It holds no row; says why.
    """
    if value is None:
        raise ValueError("has no value (a tombstone)")
    try:
        document = msgspec.json.decode(value)
        # A table may have a column of this name, whose rows are then no envelope.
        may_be_wrapped = _ENVELOPE.isdisjoint(contract.columns) and isinstance(document, dict)
        if may_be_wrapped and "payload" in document and document.keys() <= _ENVELOPE:
            document = _unwrap(document.get("schema"), document["payload"])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  (one kind for all reasons)
    # Larger than any number of a table; as text it is refused in words.
    return {
        name: str(one) if isinstance(one, int) and one not in _BIGINT else one
        for name, one in document.items()
    }


def _unwrap(schema: Any, payload: Any) -> Any:
    """The payload as a message without a schema would have it."""
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(payload, dict) or not isinstance(fields, list):
        return payload
    values = dict(payload)
    for field in fields:
        try:
            name, kind = field["field"], str(field.get("name")).rpartition(".")[2]
            value = values.get(name)
            if value is not None and kind in _LOGICAL_TYPES:
                values[name] = _LOGICAL_TYPES[kind](value, field)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise ValueError(f"does not hold what its schema says: {field!r:.200}") from None
    return values


def _decimal(value: Any, field: Any) -> Any:
    # With decimal.format=NUMERIC the converter writes a number.
    if not isinstance(value, str):
        return value
    unscaled = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
    return Decimal(unscaled).scaleb(-int(field["parameters"]["scale"]))


_LOGICAL_TYPES: dict[str, Callable[[Any, Any], Any]] = {
    "Timestamp": lambda value, field: _utc(milliseconds=value),
    "Date": lambda value, field: _utc(days=value).partition("T")[0],
    "Decimal": _decimal,
}


def _time(value: Any) -> str | None:
    """Text in ISO 8601, or milliseconds since 1970, as text in UTC."""
    try:
        if type(value) is int:
            return _utc(milliseconds=value)
        return None if value is None else read_time(value).isoformat()
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        raise ValueError(f"timestamp: is no ISO 8601 time, found {value!r:.80}") from None


def _utc(**since_1970: Any) -> str:
    # Times are kept in UTC without saying so.
    return (datetime(1970, 1, 1) + timedelta(**since_1970)).isoformat()  # noqa: DTZ001
