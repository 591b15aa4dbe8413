"""What surrounds every request: its name, its limits, and what each answer carries.

A prediction that takes the fast path does not pass it, and has the same parts of it applied.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain
from random import getrandbits
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from mlops_for_mle.serving.documents import plain, read_json
from mlops_for_mle.serving.errors import Answer, ProblemError, problem_answer, too_many
from mlops_for_mle.serving.keys import PROBES, SAFE_METHODS, Headers, check_origin, required_scope
from mlops_for_mle.serving.request import Request, current_request

if TYPE_CHECKING:
    from mlops_for_mle.serving.fast import FastPath
    from mlops_for_mle.serving.services import Services

MAX_INLINE_BODY_BYTES = 32 * 1024
"""Bytes of a body; a larger one is read and answered in a thread."""
REQUEST_ID, CONTENT_TYPE = b"x-request-id", b"content-type"
# Pages that need more than this send their own Content-Security-Policy.
PROTECTIVE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)

_MAX_MESSAGE_BYTES = 1024 * 1024
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")

logger = logging.getLogger("mlops_for_mle.serving.access")


def id_of(headers: Headers) -> str:
    """The client's name for a request, or a new one where that is missing or odd."""
    name = headers.get(REQUEST_ID, b"")
    return name.decode() if _SANE_ID.fullmatch(name) else f"{getrandbits(128):032x}"


class RequestMiddleware:
    """Stands before the routes; ``fast_path`` is for the protocol that knows of it.

    It names each request, checks its key, reads its body within the limits, bounds how many are
    worked on, completes the answer's headers, counts and logs.
    """

    fast_path: "FastPath | None"

    def __init__(self, app: FastAPI, services: "Services") -> None:
        self._app, self._services, settings = app, services, services.settings
        self._limit, self._most = settings.max_body_bytes, settings.max_concurrency
        self._seconds = settings.request_timeout_seconds
        self._patience = f"{self._seconds:g} seconds (MLOPS_REQUEST_TIMEOUT_SECONDS)"
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        now = time.perf_counter()
        request = Request(method, path, headers, scope["client"], now, id_of(headers))
        current_request.set(request)
        # HEAD is answered as GET; the server itself leaves the body out.
        inner: Scope = {**scope, "method": "GET" if method == "HEAD" else method}
        status = 500

        async def complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                added = [header for header in PROTECTIVE_HEADERS if header[0] not in present]
                request_id = (REQUEST_ID, request.request_id.encode())
                message["headers"] = [*message["headers"], *added, request_id]
            await send(message)

        try:
            await self._handle(inner, request, receive, complete)
        except ProblemError as problem:
            await response(problem_answer(problem, path))(inner, receive, complete)
        except Exception:
            # The framework has answered it.
            logger.exception("%s %s failed", method, path)
        request.route = getattr(inner.get("route"), "path", request.route)
        self.answered(request, status)

    def answered(self, request: Request, status: int) -> None:
        """Count a request that was answered, and log it if that is wanted."""
        seconds = time.perf_counter() - request.started
        method, path, client = request.method, request.path, request.client
        self._services.metrics.duration_of(request.route, method, status).observe(seconds)
        # That a probe fails is no news.
        level = logging.WARNING if status >= 500 and path not in PROBES else logging.DEBUG
        if logger.isEnabledFor(level):
            facts = {"method": method, "path": path, "status": status}
            facts |= {"duration_ms": round(seconds * 1000, 3), "client": client and client[0]}
            logger.log(level, "%s %s answered %d", method, path, status, extra=facts)

    async def _handle(self, scope: Scope, request: Request, receive: Receive, send: Send) -> None:
        method, path, headers = scope["method"], request.path, request.headers
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise ProblemError(400, "The request names two hosts")
        need = required_scope(method, path)
        routes = self._app.routes
        if need == "admin" and all(route.matches(scope)[0] is Match.NONE for route in routes):
            # Whoever mistakes a path is told so, not sent for a key.
            need = "nothing"
        request.caller = self._services.access.check(need, headers)
        # Whoever takes pages slowly, and needs no key for that, takes nobody's place.
        if need == "nothing":
            await self._app(scope, receive, send)
            return
        if method not in SAFE_METHODS:
            check_origin(headers)
            request.body = await self._body(scope, headers, receive)
        # Only now: whoever sends a body slowly takes nobody's place.
        if self.is_full:
            raise too_many(f"The server works on {self._most} requests (MLOPS_MAX_CONCURRENCY)")
        self._inside += 1
        try:
            spent = time.perf_counter() - request.started
            async with asyncio.timeout(self._seconds - spent) as limit:

                async def begin(message: Message) -> None:
                    # An answer that begins in time may take any time to be read.
                    limit.reschedule(None)
                    await send(message)

                await self._app(scope, receive, begin)
        except TimeoutError:
            detail = f"The request took longer than {self._patience}"
            raise ProblemError(504, detail) from None
        finally:
            self._inside -= 1

    @property
    def is_full(self) -> bool:
        """Whether as many requests are worked on as may be."""
        return self._inside >= self._most

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        encoding, body = headers.get(b"content-encoding", b"identity"), bytearray()
        if encoding != b"identity":
            detail = f"Content-Encoding is {encoding.decode('latin-1')!r}: send the body as it is"
            raise ProblemError(415, detail)
        closing = {"Connection": "close"}
        try:
            async with asyncio.timeout(self._seconds):
                async for part in HttpRequest(scope, receive).stream():
                    body += part
                    if len(body) > self._limit:
                        detail = f"The body is larger than {self._limit} bytes"
                        detail += " (MLOPS_MAX_BODY_BYTES)"
                        raise ProblemError(413, detail, headers=closing)
        except ClientDisconnect:
            raise ProblemError(400, "The body ended early") from None
        except TimeoutError:
            detail = f"The body did not arrive within {self._patience}"
            raise ProblemError(408, detail, headers=closing) from None
        return bytes(body)


@lru_cache(maxsize=64)
def media_type(declared: bytes | None, *allowed: str) -> str:
    """The type that the client says its body has; ProblemError 415 for one that is not allowed."""
    media, _, parameters = (declared or b"").decode("latin-1").lower().partition(";")
    is_utf_8 = "charset" not in parameters or "utf-8" in parameters.replace("utf8", "utf-8")
    if media.strip() in allowed and is_utf_8:
        return media.strip()
    detail = f"Content-Type is {media or 'missing'}; allowed: {', '.join(allowed)} in UTF-8"
    raise ProblemError(415, detail)


def json_body() -> dict[str, Any]:
    """The fields of a route's body that is one JSON object; to be read in a thread."""
    request = current_request.get()
    media_type(request.headers.get(CONTENT_TYPE), "application/json")
    return read_json(request.body, partial(plain, form=dict))


def response(answer: Answer, http_version: str = "1.1") -> Response:
    """An answer as FastAPI sends it; what is long in it is made when it is sent, in a thread."""
    # Older clients know no answer in parts, without its length.
    is_whole = http_version < "1.1"
    messages = _messages(answer.parts, math.inf if is_whole else _MAX_MESSAGE_BYTES)
    first, second = next(messages), next(messages, None)
    headers = [(b"content-type", answer.content_type), *answer.headers]
    result: Response
    if second is None:
        result = Response(first, answer.status)
        headers = [(b"content-length", b"%d" % len(first)), *headers]
    else:
        result = StreamingResponse(chain((first, second), messages), answer.status)
    result.raw_headers = headers
    return result


def _messages(parts: Iterable[bytes], largest: float) -> Iterator[bytes]:
    """Parts together, since each message costs time, and a whole answer its memory again."""
    message = bytearray()
    for part in parts:
        message += part
        if len(message) >= largest:
            yield bytes(message)
            message.clear()
    yield bytes(message)
