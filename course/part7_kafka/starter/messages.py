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
# Step 1: the schema of a row, as Connect writes it.
SCHEMA: dict[str, Any] = {}


def wrap(row: Row) -> bytes:
    """The value of a message that holds a row: schema and payload, as JSON."""
    raise NotImplementedError("step 1: schema and payload, as JSON, as bytes")


def read_row(value: bytes | None) -> Row:
    """The columns of the row in a message, with or without an envelope.

    Raises:
        ValueError: It holds no row; says why.
    """
    raise NotImplementedError("step 2: JSON, perhaps an envelope, an object; then each column")


def read_value(name: str, found: Any) -> int | float | None:
    """A value that the column can hold.

    Raises:
        ValueError: It cannot; names the column.
    """
    raise NotImplementedError("step 2: a number that fits the type in COLUMNS")
