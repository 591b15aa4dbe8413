"""The short way of a small POST that predicts: answered at the end of its turn of the event loop.

ASGI gives each request a task, messages for its parts and an answer in two messages. For a request
that has arrived whole and is answered in microseconds, that costs more than all the rest. And what
has arrived in one turn is answered together: the model, the prediction log and the processor's
caches take eight rows at once nearly as quickly as one. Nobody waits for others to arrive.

Keys, ids, limits, routes, errors and counts are those of the ordinary way; whatever is not plain
and small goes there.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import NamedTuple

from mlops_for_mle.serving.auth import Need, needed
from mlops_for_mle.serving.context import (
    LARGEST_AT_ONCE,
    PROTECTIVE_HEADERS,
    REFUSED_ROUTE,
    REQUEST_ID,
    Answer,
    Guard,
    Request,
    RequestContext,
    Services,
    problem_answer,
    request_id_for,
)
from mlops_for_mle.serving.errors import ProblemError, our_failure
from mlops_for_mle.serving.logs import RequestFacts, current_request
from mlops_for_mle.serving.predict import HotRoute, Question, answer

_REMEMBERED_URLS, _LONGEST_REMEMBERED = 256, 256
# Compressed, still to come, or from a page, which is looked at by the ordinary way.
_UNUSUAL = frozenset(
    {b"content-encoding", b"transfer-encoding", b"expect", b"origin", b"sec-fetch-site"}
)
_STATUS_LINES = {
    one.value: b"HTTP/1.1 %d %b\r\n" % (one.value, one.phrase.encode()) for one in HTTPStatus
}
_PROTECTIVE = b"".join(b"%b: %b\r\n" % pair for pair in PROTECTIVE_HEADERS)

logger = logging.getLogger(__name__)


class WholePost(NamedTuple):
    """A POST that has arrived with its body, and whose connection stays open.

    The names of headers are in lower case, ``server_lines`` go into every answer, and ``send``
    takes head and body of the answer.
    """

    url: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    client: tuple[str, int] | None
    server_lines: bytes
    send: Callable[[bytes], None]


class _Target(NamedTuple):
    """Where a URL leads and what it takes to get there."""

    route: HotRoute
    path: str
    need: Need


class FastWay:
    """Gives the answers that the application would give; for one event loop."""

    def __init__(
        self,
        services: Services,
        context: RequestContext,
        guard: Guard,
        routes: Sequence[HotRoute],
    ) -> None:
        """Join what surrounds the ordinary way, and the routes that have this one, too."""
        self._services, self._context, self._guard = services, context, guard
        self._largest = min(LARGEST_AT_ONCE, services.settings.max_body_bytes)
        self._logs_all = services.settings.access_log == "all"
        self._routes = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", one.path)), one) for one in routes]
        self._targets: dict[bytes, _Target] = {}
        self._waiting: list[tuple[WholePost, _Target, Question]] = []

    def take(self, post: WholePost) -> bool:
        """See to it that a request is answered by the end of this turn of the event loop.

        Returns:
            False, the request has to go the ordinary way; nothing was done.
        """
        started = time.perf_counter()
        target = self._targets.get(post.url) or self._look_up(post.url)
        headers = dict(post.headers)
        if (
            target is None
            or len(post.body) > self._largest
            or self._guard.is_full
            or len(headers) != len(post.headers)
            or not _UNUSUAL.isdisjoint(headers)
        ):
            return False
        facts = RequestFacts(request_id_for(headers.get(REQUEST_ID)).decode("ascii"))
        request = Request(target.path, headers, post.body, started, facts)
        try:
            self._services.access.check(target.need, headers)
        except ProblemError as problem:
            self._finish(post, request, REFUSED_ROUTE, problem_answer(problem, target.path))
            return True
        try:
            question = target.route.read(self._services, request)
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            self._finish(post, request, target.route.path, _explain(request, error))
            return True
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((post, target, question))
        return True

    def flush(self) -> None:
        """Answer what waits, now."""
        waiting, self._waiting = self._waiting, []
        for _, group in groupby(waiting, lambda one: (id(one[2].served), one[2].is_kept)):
            self._answer(list(group))

    def _answer(self, group: Sequence[tuple[WholePost, _Target, Question]]) -> None:
        try:
            answers = answer(self._services, [question for _, _, question in group])
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            if len(group) > 1:
                # What is wrong with one must not be the others' fault.
                for one in group:
                    self._answer([one])
                return
            answers = [_explain(group[0][2].request, error)]
        for (post, target, question), found in zip(group, answers, strict=True):
            self._finish(post, question.request, target.route.path, found)

    def _finish(self, post: WholePost, request: Request, route: str, found: Answer) -> None:
        """Count, log and send an answer."""
        seconds = time.perf_counter() - request.started
        self._services.metrics.requested(route, "POST", found.status, seconds)
        if found.status >= 500 or self._logs_all:
            token = current_request.set(request.facts)
            self._context.answered("POST", request.path, post.client, found.status, seconds)
            current_request.reset(token)
        own = b"".join(b"%b: %b\r\n" % pair for pair in found.headers) if found.headers else b""
        # As RFC 9112 has it, with the headers that every answer has.
        post.send(
            b"%b%bcontent-length: %d\r\ncontent-type: %b\r\n%b%bx-request-id: %b\r\n\r\n%b"
            % (
                _STATUS_LINES[found.status],
                post.server_lines,
                len(found.body),
                found.content_type,
                own,
                _PROTECTIVE,
                request.facts.request_id.encode(),
                found.body,
            )
        )

    def _look_up(self, url: bytes) -> _Target | None:
        """The route of a URL that stands for its path letter by letter."""
        if not url.isascii() or any(mark in url for mark in (b"?", b"%", b"#")):
            return None
        path = url.decode("ascii")
        route = next((one for known, one in self._routes if known.fullmatch(path)), None)
        if route is None:
            return None
        found = _Target(route, path, needed("POST", path))
        if len(url) <= _LONGEST_REMEMBERED and len(self._targets) < _REMEMBERED_URLS:
            self._targets[url] = found
        return found


def _explain(request: Request, error: Exception) -> Answer:
    """The answer to a request that could not be answered."""
    if isinstance(error, ProblemError):
        return problem_answer(error, request.path)
    token = current_request.set(request.facts)
    logger.error("POST %s failed", request.path, exc_info=error)
    current_request.reset(token)
    return problem_answer(our_failure(), request.path)
