"""What every request and answer carry: a request id and the headers that protect browsers."""

import logging
import re
import time
from contextvars import ContextVar
from random import getrandbits

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_for_mle.serving.settings import AccessLog

# Pages that need more than this send their own Content-Security-Policy.
API_POLICY = b"default-src 'none'; frame-ancestors 'none'"

_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_UNLESS_GIVEN = ((b"content-security-policy", API_POLICY), (b"cache-control", b"no-store"))
_GIVEN = frozenset(name for name, _ in _UNLESS_GIVEN)
PROTECTIVE_HEADERS: tuple[tuple[bytes, bytes], ...] = (*_ALWAYS, *_UNLESS_GIVEN)
REQUEST_ID = b"x-request-id"
_LINES_PER_SECOND = 10
# What asks these asks again and again, and the answer 503 is what it asks for.
_PROBES = frozenset({"/health/ready", "/health", "/ping", "/v2/health/ready"})

logger = logging.getLogger("mlops_for_mle.serving.access")


class RequestFacts:
    """What log lines say of the request that is being answered.

    Attributes:
        request_id: The client's ``X-Request-ID``, or one that was made for it.
        prediction_id: The id of its predictions, once there are any.
    """

    __slots__ = ("prediction_id", "request_id")

    def __init__(self, request_id: str) -> None:
        """Name the request."""
        self.request_id = request_id
        self.prediction_id: str | None = None


def request_id_for(given: bytes | None) -> bytes:
    """What the client calls its request, or a new id where it says nothing or something odd."""
    if given is not None and _SANE_ID.fullmatch(given):
        return given
    return b"%032x" % getrandbits(128)


current_request: ContextVar[RequestFacts | None] = ContextVar("current_request", default=None)


class RequestContext:
    """Middleware that names each request, completes each answer's headers and logs requests."""

    def __init__(self, application: ASGIApp, access_log: AccessLog = "errors") -> None:
        """Wrap an application.

        Args:
            application: What answers.
            access_log: ``errors`` logs answers from 500 on, at most ten a second and those of a
                probe once until it succeeds; ``all`` logs every one, which costs about as much as
                a prediction does.
        """
        self._application = application
        self._logs_all = access_log == "all"
        self._logs_errors = access_log == "errors"
        self._second = 0
        self._lines = 0
        self._failing_probes: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        given: bytes | None = None
        for name, value in scope["headers"]:
            if name == REQUEST_ID:
                given = value
        request_id = request_id_for(given)
        if given is not None and given is not request_id:
            scope["headers"] = [one for one in scope["headers"] if one[0] != REQUEST_ID]
        facts = RequestFacts(request_id.decode("ascii"))
        current_request.set(facts)
        started = time.perf_counter()
        status = 0

        async def complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                given_headers = message.get("headers", ())
                added = PROTECTIVE_HEADERS
                for name, _ in given_headers:
                    if name in _GIVEN:
                        present = {one for one, _ in given_headers}
                        added = tuple(one for one in added if one[0] not in present)
                        break
                message["headers"] = [*given_headers, *added, (REQUEST_ID, request_id)]
                status = message["status"]
            await send(message)

        await self._application(scope, receive, complete)
        self.answered(scope, status, time.perf_counter() - started)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Log a request that was answered, if that is wanted."""
        if self._failing_probes and status < 500:
            self._failing_probes.discard(scope["path"])
        if self._logs_all or (status >= 500 and self._logs_errors and self._is_news(scope["path"])):
            self._log(scope, status, seconds)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        client = scope.get("client")
        logger.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "%s %s answered %d",
            scope["method"],
            scope["path"],
            status,
            extra={
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "client": client[0] if client else None,
            },
        )

    def _is_news(self, path: str) -> bool:
        """Whether an answer from 500 on is worth a line: of a probe only the first in a row is."""
        if path in self._failing_probes:
            return False
        if path in _PROBES:
            self._failing_probes.add(path)
        return self._may_log()

    def _may_log(self) -> bool:
        """Whether another line is allowed in this second, so that an overload fills no disk."""
        second = int(time.monotonic())
        if second != self._second:
            left_off = self._lines - _LINES_PER_SECOND
            if left_off > 0:
                logger.warning("%d more answers from 500 on were not logged", left_off)
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= _LINES_PER_SECOND
