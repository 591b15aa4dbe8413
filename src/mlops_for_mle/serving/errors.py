"""What a client is told when a request cannot be answered, in the words of its protocol.

Every error is a ``ProblemError`` until it leaves. Then ``/invocations`` words it as MLflow does,
``/v2`` as the Open Inference Protocol does, and everything else as a problem document (RFC 9457).
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

PROBLEM_TYPE = b"application/problem+json"
JSON_TYPE = b"application/json"

MOST_FAULTS = 50
"""So many faults of a body are told; then nobody looks for more."""

_SHOWN_CHARACTERS = 80
_MLFLOW_CODES = {
    HTTPStatus.TOO_MANY_REQUESTS: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}


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


class Faults:
    """Collects what is wrong with a body, and ends the search when that is enough."""

    def __init__(self) -> None:
        """Begin with nothing wrong."""
        self.found: list[FieldError] = []

    def add(self, path: str, message: str, allowed: str, given: Any = msgspec.UNSET) -> None:
        """Note one fault; ``given`` is the value itself, where there is one.

        Raises:
            ProblemError: 422, enough was found.
        """
        told = None if given is msgspec.UNSET else shown(given)
        self.found.append(FieldError(readable(path, 200), message, told, allowed))
        if len(self.found) >= MOST_FAULTS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Refuse the request if anything is wrong.

        Raises:
            ProblemError: 422.
        """
        if self.found:
            raise unprocessable(*self.found)


def unprocessable(*errors: FieldError) -> ProblemError:
    """The answer 422, with the first error in its sentence."""
    first = errors[0]
    where = f"{first.path}: " if first.path else ""
    found = f", found {first.given}" if first.given is not None else ""
    more = f"{len(errors) - 1} more" if len(errors) < MOST_FAULTS else "more"
    others = f" ({more})" if len(errors) > 1 else ""
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{where}{first.message}{found}; allowed: {first.allowed}{others}",
        errors,
    )


def refused(path: str, message: str, allowed: str, given: str | None = None) -> ProblemError:
    """The answer 422 to one fault."""
    return unprocessable(FieldError(readable(path, 200), message, given, allowed))


def not_ready(detail: str, retry_seconds: int = 1) -> ProblemError:
    """The answer 503, with ``Retry-After``."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(retry_seconds)}
    )


def our_failure() -> ProblemError:
    """500: what has failed stands in the log only."""
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "The server has failed; see its log")


def worded(problem: ProblemError, path: str) -> tuple[int, bytes, bytes]:
    """Status, media type and body of a problem, as the protocol of the path has them."""
    status = HTTPStatus(problem.status)
    is_mlflow, is_inference = path == "/invocations", path == "/v2" or path.startswith("/v2/")
    if not (is_mlflow or is_inference):
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status,
            "detail": problem.detail,
        }
        if problem.errors:
            document["errors"] = [one._asdict() for one in problem.errors]
        return status, PROBLEM_TYPE, msgspec.json.encode(document)
    # What is wrong with the rows is 400 in both.
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    document = {"error": problem.detail}
    if is_mlflow:
        code = _MLFLOW_CODES.get(status, status.name)
        document = {"error_code": code, "message": problem.detail}
    return status, JSON_TYPE, msgspec.json.encode(document)


def shown(value: object) -> str:
    """A value as JSON, shortened."""
    match value:
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)} fields"
        case None | bool() | str():
            given = readable(value) if isinstance(value, str) else value
            return msgspec.json.encode(given).decode()
        case float() if not math.isfinite(value):
            return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    return readable(str(value))


def readable(text: str, longest: int = _SHOWN_CHARACTERS) -> str:
    """A client's text, shortened, and as Unicode has it: JSON may hold halves of pairs."""
    return text[:longest].encode(errors="replace").decode()
