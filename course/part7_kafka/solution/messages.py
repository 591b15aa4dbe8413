"""Rows as Kafka Connect writes them into messages, and back; knows neither Kafka nor a table."""

import json
from typing import Any

Row = dict[str, Any]

# The columns of a row, with their types in a schema of Connect.
COLUMNS = {
    "id": "int32",
    "sepal_length": "double",
    "sepal_width": "double",
    "petal_length": "double",
    "petal_width": "double",
    "target": "int32",
}
OPTIONAL = {"target"}
SCHEMA = {
    "type": "struct",
    "name": "iris_data",
    "optional": False,
    "fields": [
        {"field": name, "type": kind, "optional": name in OPTIONAL}
        for name, kind in COLUMNS.items()
    ],
}


def wrap(row: Row) -> bytes:
    """The value of a message that holds a row: schema and payload, as JSON."""
    return json.dumps({"schema": SCHEMA, "payload": row}).encode()


def read_row(value: bytes | None) -> Row:
    """The columns of the row in a message, with or without an envelope.

    Raises:
        ValueError: It holds no row; says why.
    """
    if value is None:
        raise ValueError("no value: a tombstone")
    try:
        document = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if isinstance(document, dict) and document.keys() == {"schema", "payload"}:
        document = document["payload"]
    if not isinstance(document, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  (one kind for all reasons)
    return {name: read_value(name, document.get(name)) for name in COLUMNS}


def read_value(name: str, found: Any) -> int | float | None:
    """A value that the column can hold.

    Raises:
        ValueError: It cannot; names the column.
    """
    if found is None and name in OPTIONAL:
        return None
    kind = COLUMNS[name]
    # A boolean is an int of Python's, and JSON of Python's knows NaN and Infinity.
    if kind == "int32":
        fits = type(found) is int and -(2**31) <= found < 2**31
    else:
        fits = type(found) in (int, float) and abs(found) < 1e300
    if not fits:
        raise ValueError(f"{name}: no {kind}, found {found!r:.40}")
    return found  # type: ignore[no-any-return]
