"""Asks the API about one row, and tells what becomes of a row by its answer."""

import math
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

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
    # JSON has no NaN and no infinity; whether null is allowed, is for the API to say.
    numbers = {name: row[name] for name in LENGTHS}
    sent = {k: v if v is not None and math.isfinite(v) else None for k, v in numbers.items()}
    try:
        response = client.post("/predict", json=sent)
        if response.status_code == 422:
            return Refused(reason=_reason(response))
        if response.status_code != 200:
            raise ApiUnavailableError(f"status {response.status_code}")
        return Predicted.model_validate_json(response.content)
    except httpx.TransportError as error:
        raise ApiUnavailableError(f"{type(error).__name__}: {error}") from None
    except ValidationError as error:
        raise ApiUnavailableError(f"no prediction: {error.errors()[0]['msg']}") from None


def _reason(response: httpx.Response) -> str:
    """The first field that FastAPI complains about, or what else was said."""
    try:
        first = response.json()["detail"][0]
        return f"{first['loc'][-1]}: {first['msg']}"
    except (ValueError, LookupError, TypeError):
        return response.text[:200] or "no reason was given"


def sort_answers(
    answers: Mapping[int, Predicted | Refused],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make rows of ``predictions`` and of ``dead_letters`` from answers by the row's id."""
    predictions, letters = [], []
    for row_id, answer in answers.items():
        if isinstance(answer, Predicted):
            predictions.append({"row_id": row_id, **answer.model_dump()})
        else:
            letters.append({"row_id": row_id, **answer.model_dump()})
    return predictions, letters
