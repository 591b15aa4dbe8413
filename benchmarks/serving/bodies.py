"""The rows that all servers are asked about, in the form of each server's own protocol."""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")

# The ranges of the iris measurements in cm; like them, rows have one decimal.
RANGES = ((4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5))

Row = tuple[float, ...]


@dataclass(frozen=True)
class BodySize:
    """How many rows a body holds, and whether it may hold them by columns.

    Attributes:
        row_count: How many rows.
        by_columns: Whether each server is given its quickest form instead of a list of rows.
    """

    row_count: int
    by_columns: bool = False

    @classmethod
    def parse(cls, text: str) -> "BodySize":
        """Read ``100`` (rows) or ``10000c`` (rows by columns).

        Raises:
            ValueError: It is neither.
        """
        found = re.fullmatch(r"([1-9]\d{0,5})(c?)", text.strip())
        if found is None:
            raise ValueError(f"a body is a number of rows, or one with c for columns, not {text!r}")
        return cls(int(found[1]), bool(found[2]))

    def __str__(self) -> str:
        return f"{self.row_count}{'c' if self.by_columns else ''}"

    @property
    def title(self) -> str:
        """For people."""
        rows = "1 row" if self.row_count == 1 else f"{self.row_count:,} rows"
        return f"{rows} by columns" if self.by_columns else rows


def make_rows(count: int) -> list[Row]:
    """The first rows of an endless series that is always the same."""
    generator = random.Random(7)
    return [
        tuple(round(generator.uniform(low, high), 1) for low, high in RANGES) for _ in range(count)
    ]


@dataclass(frozen=True)
class Form:
    """One way to ask for predictions and to read them from the answer.

    Attributes:
        write: Makes the document of a body.
        read: Takes the predicted classes from the document of an answer.
    """

    write: Callable[[Sequence[Row]], Any]
    read: Callable[[Any], list[int]]

    def body(self, rows: Sequence[Row]) -> bytes:
        """The bytes of a request."""
        return json.dumps(self.write(rows), separators=(",", ":")).encode()

    def answer(self, content: bytes) -> list[int]:
        """The classes in the bytes of an answer."""
        return [int(value) for value in self.read(json.loads(content))]


def _object(row: Row) -> dict[str, float]:
    return dict(zip(FEATURES, row, strict=True))


def _objects(rows: Sequence[Row]) -> list[dict[str, float]]:
    return [_object(row) for row in rows]


def _columns(rows: Sequence[Row]) -> dict[str, list[float]]:
    return dict(zip(FEATURES, map(list, zip(*rows, strict=True)), strict=True))


def _tensor(rows: Sequence[Row]) -> dict[str, Any]:
    data = [value for row in rows for value in row]
    shape = [len(rows), len(FEATURES)]
    tensor = {"name": "features", "datatype": "FP64", "shape": shape, "data": data}
    return {"inputs": [tensor]}


OBJECT = Form(lambda rows: _object(rows[0]), lambda answer: [answer["iris_class"]])
OBJECTS = Form(_objects, lambda answer: [one["iris_class"] for one in answer])
COLUMNS = Form(
    lambda rows: {"columns": _columns(rows)}, lambda answer: answer["columns"]["iris_class"]
)
MLFLOW_SPLIT = Form(
    lambda rows: {"dataframe_split": {"columns": FEATURES, "data": rows}},
    lambda answer: answer["predictions"],
)
MLFLOW_COLUMNS = Form(lambda rows: {"inputs": _columns(rows)}, lambda answer: answer["predictions"])
TENSOR = Form(_tensor, lambda answer: answer["outputs"][0]["data"])
LISTS = Form(lambda rows: {"rows": rows}, lambda answer: answer)
