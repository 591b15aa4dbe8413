"""Reads the types that Kafka Connect has and JSON has not, by the schema in an envelope.

JsonConverter writes a Timestamp as milliseconds since 1970, a Date as days since 1970 and a Decimal
as its unscaled value in base64; the schema of the field names the type.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (times are kept in UTC without saying so)

_PREFIX = "org.apache.kafka.connect.data."


class ConnectTypeError(Exception):
    """A value is not what the schema of its field says.

    Attributes:
        field: The field's name.
        expected: What its schema says.
        value: What was found.
    """

    def __init__(self, field: str, expected: str, value: Any) -> None:
        """Name the field."""
        super().__init__(field)
        self.field = field
        self.expected = expected
        self.value = value


def plain_values(schema: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a payload as a message without a schema would have them.

    Args:
        schema: The envelope's schema; it may be anything, since not every producer sends one.
        payload: The envelope's payload.

    Raises:
        ConnectTypeError: A value does not fit its field's schema.
    """
    values = dict(payload)
    for name, kind, field in _fields(schema):
        read, value = _READERS.get(kind), values.get(name)
        if read is None or value is None:
            continue
        try:
            values[name] = read(value, field)
        except (ArithmeticError, ValueError, TypeError):
            raise ConnectTypeError(name, kind.removeprefix(_PREFIX), value) from None
    return values


def _fields(schema: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict):
            name, kind = field.get("field"), field.get("name")
            if isinstance(name, str) and isinstance(kind, str):
                yield name, kind, field


def _timestamp(value: Any, field: Mapping[str, Any]) -> str:
    del field
    return (EPOCH + timedelta(milliseconds=_whole(value))).isoformat()


def _date(value: Any, field: Mapping[str, Any]) -> str:
    del field
    return (EPOCH + timedelta(days=_whole(value))).date().isoformat()


def _decimal(value: Any, field: Mapping[str, Any]) -> Any:
    # With decimal.format=NUMERIC the converter writes a number.
    if not isinstance(value, str):
        return value
    unscaled = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
    parameters = field.get("parameters")
    scale = int(parameters.get("scale", 0)) if isinstance(parameters, dict) else 0
    return Decimal(unscaled).scaleb(-scale)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


_READERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    f"{_PREFIX}Timestamp": _timestamp,
    f"{_PREFIX}Date": _date,
    f"{_PREFIX}Decimal": _decimal,
}
