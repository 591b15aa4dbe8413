"""Errors that a client gets to see, as problem documents (RFC 9457)."""

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

PROBLEM_TYPE = "application/problem+json"

_SHOWN_CHARACTERS = 80


class FieldError(NamedTuple):
    """What is wrong with one part of a request.

    Attributes:
        path: Where it stands, such as ``length``; empty for the body as a whole.
        message: What is wrong, as the rest of a sentence about it.
        given: The value as JSON, shortened; None where there is no value.
        allowed: What would be right.
    """

    path: str
    message: str
    given: str | None
    allowed: str


class ProblemError(Exception):
    """A request that cannot be answered, with the status and the sentence that the client gets."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the problem; ``headers`` go with the answer, for example ``Retry-After``."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return problem_document(self.status, self.detail, self.errors)


def problem_document(status: int, detail: str, errors: Sequence[FieldError] = ()) -> dict[str, Any]:
    """A problem document; ``errors`` appears only where there are any."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        document["errors"] = [error._asdict() for error in errors]
    return document


def our_failure() -> ProblemError:
    """500: what has failed stands in the log only."""
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "The server has failed; see its log")


def unprocessable(errors: Sequence[FieldError], count: int | None = None) -> ProblemError:
    """The answer 422, with the first error in its sentence.

    Args:
        errors: What is wrong.
        count: How many errors there are, where not all of them are given.
    """
    count = len(errors) if count is None else count
    first = errors[0]
    where = f"{first.path}: " if first.path else ""
    found = f", found {first.given}" if first.given is not None else ""
    others = f" ({count - 1} more)" if count > 1 else ""
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{where}{first.message}{found}; allowed: {first.allowed}{others}",
        errors,
    )


def not_ready(detail: str, retry_seconds: int = 1) -> ProblemError:
    """The answer 503, with ``Retry-After``."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(retry_seconds)}
    )


def shown(value: object) -> str:
    """A value as JSON, shortened."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, str):
        value = value[:_SHOWN_CHARACTERS]
    elif isinstance(value, list):
        return f"a list of {len(value)}"
    elif isinstance(value, dict):
        return f"an object of {len(value)} fields"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
