"""What a client is told when a request cannot be answered, in the words of its protocol.

Every error is a ``ProblemError`` until it leaves. Then ``/invocations`` words it as MLflow does,
``/v2`` as the Open Inference Protocol does, and everything else as a problem document (RFC 9457).
"""

import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

JSON_TYPE = b"application/json"
MAX_FAULTS = 50
"""So many faults of a body are reported; then the search ends."""


class Answer(msgspec.Struct):
    """What a pure route answers; a long one is made part by part, when it is sent."""

    parts: Iterable[bytes]
    content_type: bytes = JSON_TYPE
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The whole body; parts may be there only once."""
        return b"".join(self.parts)


class FieldError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with one part of a request; ``path`` is empty for the body as a whole.

    ``message`` is the rest of a sentence about it, ``given`` the JSON of the value, shortened.
    """

    path: str
    message: str
    given: str | None
    allowed: str


class Problem(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()


@dataclass(eq=False)
class ProblemError(Exception):
    """A request that cannot be answered: what the client gets."""

    status: int
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail


class Faults:
    """Collects what is wrong with a body, and ends the search when that is enough."""

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def add(self, path: str, message: str, allowed: str, given: Any = msgspec.UNSET) -> None:
        """Note one fault; ``given`` is the value itself, where there is one."""
        text = None if given is msgspec.UNSET else shown(given)
        self._errors.append(FieldError(path[:200], message, text, allowed))
        if len(self._errors) >= MAX_FAULTS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Refuse the request if anything is wrong."""
        if self._errors:
            raise unprocessable(*self._errors)


def unprocessable(*errors: FieldError) -> ProblemError:
    """The answer 422, with the first error in its sentence."""
    first = errors[0]
    where = f"{first.path}: " if first.path else ""
    given = f", found {first.given}" if first.given is not None else ""
    more = f"{len(errors) - 1} more" if len(errors) < MAX_FAULTS else "more"
    rest = f" ({more})" if len(errors) > 1 else ""
    detail = f"{where}{first.message}{given}; allowed: {first.allowed}{rest}"
    return ProblemError(422, detail, errors)


def refused(path: str, message: str, allowed: str, given: str | None = None) -> ProblemError:
    """The answer 422 to one fault."""
    return unprocessable(FieldError(path[:200], message, given, allowed))


def not_ready(detail: str) -> ProblemError:
    """The answer 503."""
    return ProblemError(503, detail, headers={"Retry-After": "1"})


def too_many(detail: str) -> ProblemError:
    """The answer 429."""
    return ProblemError(429, f"{detail}; try again later", headers={"Retry-After": "1"})


def problem_answer(problem: ProblemError, path: str) -> Answer:
    """A problem in the words of the path's protocol."""
    status, media_type, detail = HTTPStatus(problem.status), JSON_TYPE, problem.detail
    is_mlflow, is_inference = path == "/invocations", path == "/v2" or path.startswith("/v2/")
    if status == 422 and (is_mlflow or is_inference):
        # Both protocols answer wrong rows with 400.
        status = HTTPStatus.BAD_REQUEST
    document: Any = {"error": detail}
    if is_mlflow:
        # The codes that its client knows.
        code = "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"
        document = {"error_code": code, "message": detail}
    elif not is_inference:
        media_type = b"application/problem+json"
        document = Problem("about:blank", status.phrase, status, detail, tuple(problem.errors))
    headers = [(name.lower().encode(), text.encode()) for name, text in problem.headers.items()]
    return Answer([msgspec.json.encode(document)], media_type, status, tuple(headers))


def shown(value: object) -> str:
    """A value as JSON, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        # To write JSON takes more of Python's stack than to read it.
        text = reprlib.repr(value)
    return text[:80]
