"""Asks the API about one row, and tells what becomes of a row by its answer."""

from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

LENGTHS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
Row = Mapping[Any, Any]


class Predicted(BaseModel):
    """The API's answer 200; strict, since a "2" would be a change that nobody has told us."""

    model_config = ConfigDict(strict=True)

    iris_class: int
    model: str


class Refused(BaseModel):
    """The API's answer 422: it will never take this row."""

    reason: str


class ApiUnavailableError(Exception):
    """The API gave no answer about the row; perhaps it will later."""


def ask(client: httpx.Client, row: Row) -> Predicted | Refused:
    """Ask about one row.

    Raises:
        ApiUnavailableError: Whatever is neither a prediction nor a refusal.
    """
    raise NotImplementedError("step 3: client.post, and three kinds of outcome")


def sort_answers(
    answers: Mapping[int, Predicted | Refused],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make rows of ``predictions`` and of ``dead_letters`` from answers by the row's id."""
    raise NotImplementedError("step 3: a dictionary with row_id and the answer's fields each")
