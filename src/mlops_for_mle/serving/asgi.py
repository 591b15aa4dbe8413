"""The few pieces of ASGI that the hot routes need, without a framework in between."""

import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_for_mle.serving.problems import PROBLEM_TYPE, ProblemError, problem_document
from mlops_for_mle.serving.recording import ServingMetrics

JSON_TYPE = b"application/json"

Middleware = Callable[[ASGIApp], ASGIApp]

logger = logging.getLogger(__name__)


class HotRequest(NamedTuple):
    """What a hot route knows of a request.

    Attributes:
        body: The whole body.
        headers: The last value of each header, by its name in lower case.
        started: ``time.perf_counter()`` at its arrival.
    """

    body: bytes
    headers: Mapping[bytes, bytes]
    started: float

    @property
    def request_id(self) -> str | None:
        """The client's name for the request."""
        given = self.headers.get(b"x-request-id")
        return given.decode("latin-1") if given is not None else None


class HotAnswer(NamedTuple):
    """What a hot route answers."""

    body: bytes
    content_type: bytes = JSON_TYPE
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HotRoute:
    """An ASGI endpoint for one method of one path: reads the body, calls the handler, answers."""

    def __init__(
        self,
        path: str,
        method: str,
        handler: Callable[[HotRequest], HotAnswer],
        max_body_bytes: int,
        metrics: ServingMetrics,
    ) -> None:
        """Name the route and what answers it."""
        self.path = path
        self._method = method
        self._handler = handler
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but the end of the connection leaves as an exception."""
        started = time.perf_counter()
        try:
            if scope["method"] != self._method:
                raise ProblemError(
                    HTTPStatus.METHOD_NOT_ALLOWED,
                    f"{self.path} takes {self._method}, not {scope['method']}",
                    headers={"Allow": self._method},
                )
            headers = dict(scope["headers"])
            body = await read_body(receive, headers, self._max_body_bytes)
            answer = self._handler(HotRequest(body, headers, started))
        except ProblemError as problem:
            answer = problem_answer(problem)
        except Exception:
            logger.exception("%s %s failed", self._method, self.path)
            answer = problem_answer(
                ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "The server has failed; see its log")
            )
        await send_answer(send, answer)
        self._metrics.requested(self.path, answer.status, time.perf_counter() - started)


class HotRoutes:
    """Sends the paths of the hot routes straight to them and everything else to the framework."""

    def __init__(self, routes: list[HotRoute], others: ASGIApp) -> None:
        """Join the hot routes and the application for everything else."""
        self._routes = {route.path: route for route in routes}
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the endpoint by the path alone."""
        endpoint = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or self._others)(scope, receive, send)


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """Read the whole body.

    Raises:
        ProblemError: 413, it is larger than the limit; 400, the client left in the middle.
    """
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError(HTTPStatus.BAD_REQUEST, "The body ended early")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
        body = b"".join(parts)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Check the type that the client says its body has; saying nothing is fine.

    Raises:
        ProblemError: 415, it is something other than JSON in UTF-8.
    """
    declared = headers.get(b"content-type")
    if declared is None or declared == JSON_TYPE:
        return
    kind, _, parameters = declared.decode("latin-1").lower().partition(";")
    kind = kind.strip()
    encoding = parameters.partition("charset=")[2].partition(";")[0].strip(' "') or "utf-8"
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    if not is_json or encoding not in {"utf-8", "utf8", "us-ascii"}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type is {declared.decode('latin-1')!r}; allowed: application/json in UTF-8",
            headers={"Accept": "application/json"},
        )


async def send_answer(send: Send, answer: HotAnswer) -> None:
    """Send an answer with its length and type."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-length", b"%d" % len(answer.body)),
                (b"content-type", answer.content_type),
                *answer.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})


def problem_answer(problem: ProblemError) -> HotAnswer:
    """A problem as an answer."""
    return HotAnswer(
        msgspec.json.encode(problem_document(problem.status, problem.detail, problem.errors)),
        PROBLEM_TYPE.encode(),
        problem.status,
        tuple((name.encode(), value.encode()) for name, value in problem.headers.items()),
    )


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is too large; allowed are {limit} bytes (MLOPS_MAX_BODY_BYTES)",
        headers={"Connection": "close"},
    )
