"""What surrounds every request: its name, its limits, and what each answer carries.

``RequestContext`` is the outermost part of the application, ``Guard`` stands before its routes. A
prediction that takes the fast way passes neither, and has the same parts of them applied.
"""

import asyncio
import contextvars
import logging
import os
import re
import time
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from random import getrandbits
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_for_mle.serving import tracing
from mlops_for_mle.serving.auth import READING, Access, Headers, needed
from mlops_for_mle.serving.documents import read_object
from mlops_for_mle.serving.errors import (
    JSON_TYPE,
    ProblemError,
    our_failure,
    refused,
    worded,
)
from mlops_for_mle.serving.logs import RequestFacts, current_request
from mlops_for_mle.serving.settings import AccessLog, ServingSettings

if TYPE_CHECKING:
    from mlops_for_mle.serving.database import Database
    from mlops_for_mle.serving.metrics import Metrics
    from mlops_for_mle.serving.prediction_log import PredictionLog
    from mlops_for_mle.serving.releases import Releases

Result = TypeVar("Result")

LARGEST_AT_ONCE = 32 * 1024
"""Bytes of a body; a larger one is read and answered in a thread."""
PROBES = frozenset({"/health", "/health/live", "/health/ready", "/ping", "/v2/health/live"})
PROBES |= {"/v2/health/ready"}
REQUEST_ID = b"x-request-id"
# Pages that need more than this send their own Content-Security-Policy.
PROTECTIVE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
REFUSED_ROUTE, _UNKNOWN_ROUTE = "(refused)", "(unknown)"

_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_LINES_PER_SECOND = 10
# Lets zlib find out by itself whether the stream is gzip or zlib.
_GZIP_OR_ZLIB = 47

logger = logging.getLogger("mlops_for_mle.serving.access")


class Request(NamedTuple):
    """What a pure route is given.

    Attributes:
        path: The path, decoded.
        headers: The last value of each, by its name in lower case.
        body: The whole body, decompressed.
        started: ``time.perf_counter()`` at its arrival.
        facts: Its name, and whether somebody still waits.
    """

    path: str
    headers: Headers
    body: bytes
    started: float
    facts: RequestFacts


class Answer(NamedTuple):
    """What a pure route answers."""

    body: bytes
    content_type: bytes = JSON_TYPE
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one serving process, which routes share; none of it is global.

    ``threads`` are for what would hold up the event loop; nothing else of the server waits for
    them.
    """

    settings: ServingSettings
    access: Access
    releases: "Releases"
    log: "PredictionLog"
    metrics: "Metrics"
    database: "Database"
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1)), "large")
    )

    def start(self) -> None:
        """Serve the cached release, if any, and follow the deployments."""
        self.log.start()
        self.releases.start()

    def stop(self) -> None:
        """End in half of the configured time; requests had the other half."""
        deadline = time.monotonic() + self.settings.shutdown_seconds / 2
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.releases.stop(min(1.0, self.settings.shutdown_seconds / 2))
        self.log.stop(max(0.0, deadline - time.monotonic()))


def request_id_for(given: bytes | None) -> bytes:
    """What the client calls its request, or a new id where it says nothing or something odd."""
    if given is not None and _SANE_ID.fullmatch(given):
        return given
    return b"%032x" % getrandbits(128)


def problem_answer(problem: ProblemError, path: str) -> Answer:
    """A problem in the words of the path's protocol."""
    status, media_type, body = worded(problem, path)
    pairs = ((name.lower().encode(), text.encode()) for name, text in problem.headers.items())
    return Answer(body, media_type, status, tuple(pairs))


async def send_answer(send: Send, answer: Answer) -> None:
    """Send an answer with its length and type."""
    length = (b"content-length", b"%d" % len(answer.body))
    headers = [length, (b"content-type", answer.content_type), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


class RequestContext:
    """Names each request, completes each answer's headers, counts and logs requests."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        """Surround an application."""
        self._app = app
        self._services = services
        self._access_log: AccessLog = services.settings.access_log
        self._second = self._lines = 0
        self._failing_probes: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_for(dict(scope["headers"]).get(REQUEST_ID))
        facts = RequestFacts(request_id.decode("ascii"))
        current_request.set(facts)
        # HEAD is answered as GET; the server itself leaves the body out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        inner: Scope = {**scope, "method": method}
        scope.setdefault("state", {})["facts"] = facts
        inner["state"] = {**scope["state"], "started": started}
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message.get("headers", ())
                present = {name for name, _ in given}
                added = (one for one in PROTECTIVE_HEADERS if one[0] not in present)
                message["headers"] = [*given, *added, (REQUEST_ID, request_id)]
                if "span" in scope["state"]:
                    span = scope["state"]["span"]
                    tracing.describe(span, scope["method"], _route_of(inner), facts)
            await send(message)

        await self._app(inner, receive, complete)
        seconds, route = time.perf_counter() - started, _route_of(inner)
        self._services.metrics.requested(route, scope["method"], status, seconds)
        self.answered(scope["method"], scope["path"], scope.get("client"), status, seconds)

    def answered(self, method: str, path: str, client: Any, status: int, seconds: float) -> None:
        """Log a request that was answered, if that is wanted."""
        if self._failing_probes and status < 500:
            self._failing_probes.discard(path)
        is_wanted = self._access_log == "all"
        if self._access_log == "errors" and status >= 500:
            is_wanted = self._is_news(path)
        if not is_wanted:
            return
        logger.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "%s %s answered %d",
            *(method, path, status),
            extra={
                "method": method,
                "path": path,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "client": client[0] if client else None,
            },
        )

    def _is_news(self, path: str) -> bool:
        """Whether an answer from 500 on is worth a line: of a probe only the first in a row is.

        And only some in a second, so that an overload fills no disk.
        """
        if path in self._failing_probes:
            return False
        if path in PROBES:
            self._failing_probes.add(path)
        second = int(time.monotonic())
        if second != self._second:
            left_off = self._lines - _LINES_PER_SECOND
            if left_off > 0:
                logger.warning("%d more answers from 500 on were not logged", left_off)
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= _LINES_PER_SECOND


class Guard:
    """Asks for keys, reads bodies within their limits, and bounds how many are worked on."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        """Stand before an application."""
        self._app = app
        self._access = services.access
        self._limit = services.settings.max_body_bytes
        self._most = services.settings.max_concurrency
        self._seconds = services.settings.request_timeout_seconds
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, sent = scope["path"], ""

        async def noting(message: Message) -> None:
            nonlocal sent
            is_whole = message["type"] == "http.response.body" and not message.get("more_body")
            sent = "whole" if is_whole else "begun"
            await send(message)

        try:
            await self._let_in(scope, receive, noting)
        except ProblemError as problem:
            failure = problem
        except TimeoutError:
            failure = timed_out(self._seconds)
        except Exception:
            logger.exception("%s %s failed", scope["method"], path)
            failure = our_failure()
        else:
            return
        finally:
            scope["state"]["facts"].is_wanted = False
        if not sent:
            await send_answer(send, problem_answer(failure, path))
        elif sent == "begun":
            # It cannot be taken back: uvicorn ends the connection.
            raise failure

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        headers = dict(scope["headers"])
        try:
            if sum(name == b"host" for name, _ in scope["headers"]) > 1:
                raise ProblemError(HTTPStatus.BAD_REQUEST, "The request names two hosts")
            scope["state"]["caller"] = self._access.check(needed(method, path), headers)
            if method not in READING:
                self._access.check_site(headers)
        except ProblemError:
            scope["state"]["is_refused"] = True
            raise
        if path in PROBES:
            await self._app(scope, receive, send)
            return
        if method not in READING:
            receive = _replay(await self._body(headers, receive), receive)
        # Only now: whoever sends a body slowly takes nobody's place.
        if self.is_full:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"The server is working on {self._most} requests and takes no more "
                "(MLOPS_MAX_CONCURRENCY); try again later",
                headers={"Retry-After": "1"},
            )
        self._inside += 1
        try:
            spent = time.perf_counter() - scope["state"]["started"]
            async with asyncio.timeout(self._seconds - spent):
                await self._app(scope, receive, send)
        finally:
            self._inside -= 1

    @property
    def is_full(self) -> bool:
        """Whether as many requests are worked on as may be."""
        return self._inside >= self._most

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                body = await _read_body(headers, receive, self._limit)
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The body did not arrive within {self._seconds:g} seconds "
                "(MLOPS_REQUEST_TIMEOUT_SECONDS)",
                headers={"Connection": "close"},
            ) from None
        encoding = headers.get(b"content-encoding", b"").strip().lower()
        if encoding in {b"", b"identity"}:
            return body
        return await asyncio.to_thread(_decoded, body, encoding, self._limit)


def timed_out(seconds: float) -> ProblemError:
    """The answer 504 to a request that took too long."""
    return ProblemError(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"The request took longer than {seconds:g} seconds (MLOPS_REQUEST_TIMEOUT_SECONDS)",
    )


async def work(
    services: Services, task: Callable[[], Result], facts: RequestFacts, receive: Receive
) -> Result:
    """Do work in a thread while others are answered; it ends early when the client leaves.

    The work looks at ``facts.is_wanted`` now and then.
    """
    loop = asyncio.get_running_loop()
    run = contextvars.copy_context().run
    doing = loop.run_in_executor(services.threads, run, task)
    leaving = asyncio.ensure_future(receive())
    try:
        either: set[asyncio.Future[Any]] = {doing, leaving}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The client has left")
        return doing.result()
    finally:
        facts.is_wanted = False
        leaving.cancel()


def media_type(headers: Headers, *allowed: str, may_be_missing: bool = False) -> str | None:
    """The type that the client says its body has, in lower case.

    Raises:
        ProblemError: 415, it is none of those that are allowed, or text in another encoding.
    """
    declared = headers.get(b"content-type")
    if declared == JSON_TYPE:
        return "application/json"
    if declared is None and may_be_missing:
        return None
    kind, _, parameters = (declared or b"").decode("latin-1").lower().partition(";")
    kind = kind.strip()
    if kind.startswith("application/") and kind.endswith("+json"):
        kind = "application/json"
    encoding = parameters.partition("charset=")[2].partition(";")[0].strip(" '\"") or "utf-8"
    if kind in allowed and encoding in {"utf-8", "utf8", "us-ascii"}:
        return kind
    found = "missing" if declared is None else repr(declared.decode("latin-1"))
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"Content-Type is {found}; allowed: {', '.join(allowed)} in UTF-8",
        headers={"Accept": "application/json"},
    )


def json_body(services: Services) -> Callable[[HttpRequest], Awaitable[dict[str, Any]]]:
    """What a route depends on whose body is one JSON object; a large one is read in a thread."""

    async def read(request: HttpRequest) -> dict[str, Any]:
        media_type(dict(request.scope["headers"]), "application/json")
        body = await request.body()
        if len(body) <= LARGEST_AT_ONCE:
            return read_object(body)
        facts = request.scope["state"]["facts"]
        return await work(services, lambda: read_object(body), facts, request.receive)

    return read


async def _read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    declared = headers.get(b"content-length", b"")
    size = int(declared) if declared.isdigit() else 0
    parts: list[bytes] = []
    more = True
    while more and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The body ended early")
        parts.append(message.get("body", b""))
        size = max(size, sum(map(len, parts)))
        more = message.get("more_body", False)
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


def _decoded(body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding is {encoding.decode('latin-1')!r}; allowed: gzip, deflate, identity",
            headers={"Accept-Encoding": "gzip, deflate, identity"},
        )
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        decoded = stream.decompress(body, limit + 1)
    except zlib.error:
        decoded = b""
    if len(decoded) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        name = encoding.decode()
        raise refused("", f"the body is not complete {name}", name)
    return decoded


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is too large; allowed are {limit} bytes (MLOPS_MAX_BODY_BYTES)",
        headers={"Connection": "close"},
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    given = [body]

    async def replay() -> Message:
        if given:
            return {"type": "http.request", "body": given.pop(), "more_body": False}
        return await receive()

    return replay


def _route_of(scope: Scope) -> str:
    """The template of the path, also of a request that came no further than the guard."""
    if scope["state"].get("is_refused"):
        return REFUSED_ROUTE
    found = scope.get("route")
    if found is None:
        routes = getattr(scope.get("app"), "routes", ())
        found = next((one for one in routes if one.matches(scope)[0] is not Match.NONE), None)
    return str(getattr(found, "path", _UNKNOWN_ROUTE))
