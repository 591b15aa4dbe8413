"""Answers small requests of the hot routes by the end of the turn of the event loop they came in.

ASGI gives each request a task, messages for its parts and an answer in two messages. For a request
that has arrived whole and is answered in microseconds, that costs more than all the rest. And what
has arrived in one turn is answered together: the model, the prediction log and the processor's
caches take eight rows at once nearly as quickly as one. Nobody waits for others to arrive.

The answers are those of the ASGI application; whatever is not plain and small goes there.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_for_mle.serving.guards.access import AccessControl, Need, needed
from mlops_for_mle.serving.guards.request_context import (
    PROTECTIVE_HEADERS,
    REQUEST_ID,
    RequestContext,
    RequestFacts,
    current_request,
    request_id_for,
)
from mlops_for_mle.serving.http.asgi import HotAnswer, HotRequest
from mlops_for_mle.serving.http.hot_routes import Asked, HotRoute, HotRoutes
from mlops_for_mle.serving.http.problems import ProblemError

_REMEMBERED_URLS = 256
_LONGEST_REMEMBERED = 256

# A body with one of them is not what it seems, or is still waited for.
_NOT_PLAIN = frozenset({b"content-encoding", b"transfer-encoding", b"expect"})
_STATUS_LINES = {
    one.value: b"HTTP/1.1 %d %b\r\n" % (one.value, one.phrase.encode()) for one in HTTPStatus
}
_PROTECTIVE = b"".join(b"%b: %b\r\n" % pair for pair in PROTECTIVE_HEADERS)

logger = logging.getLogger(__name__)


class WholeRequest(NamedTuple):
    """A POST that has arrived with its body, and whose connection stays open.

    Attributes:
        url: As it stands in the request line.
        headers: Their names in lower case.
        body: The whole body.
        client: Address and port, for the log.
        server_headers: The lines that go into every answer, such as its date.
        send: Takes head and body of the answer.
    """

    url: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    client: tuple[str, int] | None
    server_headers: bytes
    send: Callable[[bytes], None]


class _Target(NamedTuple):
    """Where a URL leads and what it takes to get there."""

    route: HotRoute
    path: str
    need: Need


class _Taken(NamedTuple):
    """A request on its way to its answer."""

    request: WholeRequest
    target: _Target
    request_id: bytes
    started: float


class _Waiting(NamedTuple):
    """A request whose question waits for its answer."""

    taken: _Taken
    asked: Asked


class ImmediateAnswers:
    """Gives the answers that the ASGI application would give; for one event loop."""

    def __init__(self, routes: HotRoutes, access: AccessControl, context: RequestContext) -> None:
        """Join the parts that the ASGI application has one around the other."""
        self._routes = routes
        self._access = access
        self._context = context
        self._targets: dict[bytes, _Target] = {}
        self._waiting: list[_Waiting] = []

    def take(self, request: WholeRequest) -> bool:
        """See to it that a request is answered by the end of this turn of the event loop.

        Returns:
            False, the request has to go the ordinary way; nothing was done.
        """
        started = time.perf_counter()
        url = request.url
        target = self._targets.get(url) or self._look_up(url)
        if target is None or not target.route.takes_at_once(request.body):
            return False
        headers = dict(request.headers)
        if not _NOT_PLAIN.isdisjoint(headers):
            return False
        given = headers.get(REQUEST_ID)
        request_id = request_id_for(given)
        if given is not None and given is not request_id:
            del headers[REQUEST_ID]
        taken = _Taken(request, target, request_id, started)
        try:
            self._access.check(target.need, request.headers)
        except ProblemError as problem:
            self._send(taken, self._access.refusal(problem))
            return True
        try:
            asked = target.route.ask(HotRequest(target.path, request.body, headers, started))
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            self._finish(taken, _explain(taken, error))
            return True
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(_Waiting(taken, asked))
        return True

    def flush(self) -> None:
        """Answer what waits, now."""
        waiting, self._waiting = self._waiting, []
        for group in _groups(waiting):
            try:
                self._answer(group)
            except Exception:
                # Whatever it was, the other groups are answered.
                logger.exception("%d requests could not be answered", len(group))

    def _answer(self, group: Sequence[_Waiting]) -> None:
        plane = group[0].taken.target.route.plane
        try:
            answered = plane.answer([one.asked.question for one in group])
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            if len(group) == 1:
                self._finish(group[0].taken, _explain(group[0].taken, error))
                return
            # What is wrong with one must not be the others' fault.
            for one in group:
                self._answer([one])
            return
        try:
            plane.keep(answered)
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            for one in group:
                self._finish(one.taken, _explain(one.taken, error))
            return
        for one, found in zip(group, answered, strict=True):
            try:
                answer = one.asked.write(found)
            except Exception as error:  # noqa: BLE001  (each becomes an answer)
                answer = _explain(one.taken, error)
            self._finish(one.taken, answer)

    def _finish(self, taken: _Taken, answer: HotAnswer) -> None:
        """Count and send an answer of the route."""
        taken.target.route.count(answer.status, taken.started)
        self._send(taken, answer)

    def _send(self, taken: _Taken, answer: HotAnswer) -> None:
        request, target, request_id, started = taken
        if answer.status >= 500:
            scope = {"method": target.route.method, "path": target.path, "client": request.client}
            token = current_request.set(RequestFacts(request_id.decode("ascii")))
            self._context.answered(scope, answer.status, time.perf_counter() - started)
            current_request.reset(token)
        own = b"".join(b"%b: %b\r\n" % pair for pair in answer.headers) if answer.headers else b""
        # As RFC 9112 has it, with the headers that every answer has.
        request.send(
            b"%b%bcontent-length: %d\r\ncontent-type: %b\r\n%b%bx-request-id: %b\r\n\r\n%b"
            % (
                _STATUS_LINES[answer.status],
                request.server_headers,
                len(answer.body),
                answer.content_type,
                own,
                _PROTECTIVE,
                request_id,
                answer.body,
            )
        )

    def _look_up(self, url: bytes) -> _Target | None:
        """The route of a URL that stands for its path letter by letter."""
        if not url.isascii() or any(mark in url for mark in (b"?", b"%", b"#")):
            return None
        path = url.decode("ascii")
        route = self._routes.find(path)
        if route is None:
            return None
        found = _Target(route, path, needed(route.method, path))
        if len(url) <= _LONGEST_REMEMBERED and len(self._targets) < _REMEMBERED_URLS:
            self._targets[url] = found
        return found


class Application:
    """An ASGI application with a short way beside it, for a server that knows of it."""

    def __init__(self, application: ASGIApp, immediate: ImmediateAnswers | None) -> None:
        """Join the two; without the short way everything goes through the application."""
        self._application = application
        self.immediate = immediate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the ordinary way."""
        await self._application(scope, receive, send)


def _groups(waiting: Sequence[_Waiting]) -> Iterator[Sequence[_Waiting]]:
    """Questions to the same release that are answered in the same way."""
    for _, group in groupby(
        waiting, lambda one: (id(one.taken.target.route.plane), id(one.asked.question.served))
    ):
        yield list(group)


def _explain(taken: _Taken, error: Exception) -> HotAnswer:
    """The answer to a request that could not be answered."""
    route = taken.target.route
    if isinstance(error, ProblemError):
        return route.write_problem(error)
    token = current_request.set(RequestFacts(taken.request_id.decode("ascii")))
    logger.error("%s %s failed", route.method, route.path, exc_info=error)
    current_request.reset(token)
    return route.failure()
