"""The few pieces of ASGI that the hot routes need, without a framework in between."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_for_mle.serving.bodies import Headers, decode_body, is_encoded, read_body
from mlops_for_mle.serving.problems import PROBLEM_TYPE, ProblemError
from mlops_for_mle.serving.recording import ServingMetrics
from mlops_for_mle.serving.request_gate import RequestGate, body_timed_out, timed_out

# What is larger is read and answered in a thread; about a hundred rows.
_LARGEST_INLINE_BODY = 32 * 1024

Middleware = Callable[[ASGIApp], ASGIApp]

logger = logging.getLogger(__name__)


class HotRequest(NamedTuple):
    """What a hot route knows of a request.

    Attributes:
        path: The path, decoded.
        body: The whole body, decompressed.
        headers: The last value of each header, by its name in lower case.
        started: ``time.perf_counter()`` at its arrival.
    """

    path: str
    body: bytes
    headers: Headers
    started: float

    @property
    def request_id(self) -> str | None:
        """The client's name for the request."""
        given = self.headers.get(b"x-request-id")
        return given.decode("latin-1") if given is not None else None


class HotAnswer(NamedTuple):
    """What a hot route answers."""

    body: bytes
    content_type: bytes = b"application/json"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem_answer(problem: ProblemError) -> HotAnswer:
    """A problem as a problem document (RFC 9457)."""
    return HotAnswer(
        json_bytes(problem.document()),
        PROBLEM_TYPE.encode(),
        problem.status,
        header_pairs(problem),
    )


def json_bytes(document: object) -> bytes:
    """JSON of what may repeat a client's text, which may be no Unicode."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def header_pairs(problem: ProblemError) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a problem."""
    return tuple((name.encode(), value.encode()) for name, value in problem.headers.items())


class HotRoute:
    """An ASGI endpoint for one method: reads the body, calls the handler, answers."""

    method = "POST"

    def __init__(
        self,
        path: str,
        handler: Callable[[HotRequest], HotAnswer],
        gate: RequestGate,
        max_body_bytes: int,
        metrics: ServingMetrics,
        write_problem: Callable[[ProblemError], HotAnswer] = problem_answer,
    ) -> None:
        """Name the route and what answers it.

        Args:
            path: May have parts in braces, which stand for anything but a slash.
            handler: Called in the event loop, or in a thread for large bodies.
            gate: Bounds how many requests are answered at once, and how long.
            max_body_bytes: The largest body, before and after decompression.
            metrics: Told of every answer.
            write_problem: How the route's protocol words an error.
        """
        self.path = path
        self._handler = handler
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._write_problem = write_problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but the end of the connection leaves as an exception."""
        started = time.perf_counter()
        gate = self._gate
        task: asyncio.Task[object] | None = None
        body: bytes | None = None
        try:
            if scope["method"] != self.method:
                raise self._wrong_method(scope["method"])
            task = gate.enter(started)
            headers = dict(scope["headers"])
            body = await read_body(receive, headers, self._max_body_bytes)
            request = HotRequest(scope["path"], body, headers, started)
            if b"content-encoding" in headers and is_encoded(headers):
                answer = await gate.run(self._decode_and_handle, request)
            elif len(body) > _LARGEST_INLINE_BODY:
                answer = await gate.run(self._handler, request)
            else:
                answer = self._handler(request)
        except ProblemError as problem:
            answer = self._write_problem(problem)
        except asyncio.CancelledError:
            if task is None or not gate.has_expired(task):
                raise
            late = body_timed_out if body is None else timed_out
            answer = self._write_problem(late(gate.timeout_seconds))
        except Exception:
            logger.exception("%s %s failed", self.method, self.path)
            answer = self._write_problem(
                ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "The server has failed; see its log")
            )
        finally:
            if task is not None:
                gate.leave(task)
        await send_answer(send, answer)
        self._metrics.requested(self.path, answer.status, time.perf_counter() - started)

    def _decode_and_handle(self, request: HotRequest) -> HotAnswer:
        body = decode_body(request.body, request.headers, self._max_body_bytes)
        return self._handler(request._replace(body=body))

    def _wrong_method(self, method: str) -> ProblemError:
        return ProblemError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{self.path} takes {self.method}, not {method}",
            headers={"Allow": self.method},
        )


class HotRoutes:
    """Sends the paths of the hot routes straight to them and everything else to the framework."""

    def __init__(self, routes: list[HotRoute], others: ASGIApp) -> None:
        """Join the hot routes and the application for everything else."""
        self._fixed = {route.path: route for route in routes if "{" not in route.path}
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", route.path)), route)
            for route in routes
            if "{" in route.path
        ]
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the endpoint by the path alone."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        endpoint = self._fixed.get(scope["path"]) or self._find(scope["path"])
        await endpoint(scope, receive, send)

    def _find(self, path: str) -> ASGIApp:
        for pattern, route in self._patterns:
            if pattern.fullmatch(path):
                return route
        return self._others


async def send_answer(send: Send, answer: HotAnswer) -> None:
    """Send an answer with its length and type."""
    start: Message = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            (b"content-length", b"%d" % len(answer.body)),
            (b"content-type", answer.content_type),
            *answer.headers,
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})
