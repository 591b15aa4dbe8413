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
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from starlette.routing import compile_path

from mlops_for_mle.serving.auth import Need, needed
from mlops_for_mle.serving.context import (
    LARGEST_AT_ONCE,
    REQUEST_ID,
    UNKNOWN_ROUTE,
    Answer,
    Request,
    RequestContext,
    Services,
    problem_answer,
    request_id_for,
)
from mlops_for_mle.serving.errors import ProblemError, our_failure
from mlops_for_mle.serving.logs import RequestFacts, current_request
from mlops_for_mle.serving.predict import HotRoute, Question, answer

# Compressed, still to come, or from a page, which is looked at by the ordinary way.
_UNUSUAL = frozenset(
    {b"content-encoding", b"transfer-encoding", b"expect", b"origin", b"sec-fetch-site"}
)

Headers = Sequence[tuple[bytes, bytes]]
"""With names in lower case."""
Send = Callable[[Answer, str], None]
"""Takes an answer and the request's id."""

logger = logging.getLogger(__name__)


class _Target(NamedTuple):
    """Where a URL leads and what it takes to get there."""

    route: HotRoute
    path: str
    need: Need


class _Asked(NamedTuple):
    """A request, the route that it has come to, and what takes its answer."""

    request: Request
    route: str
    client: tuple[str, int] | None
    send: Send


class FastWay:
    """Gives the answers that the application would give; for one event loop."""

    def __init__(
        self,
        services: Services,
        context: RequestContext,
        routes: Sequence[HotRoute],
    ) -> None:
        """Join what surrounds the ordinary way, and the routes that have this one, too."""
        self._services, self._context = services, context
        self._largest = min(LARGEST_AT_ONCE, services.settings.max_body_bytes)
        self._logs_all = services.settings.access_log == "all"
        self._routes = [(compile_path(one.path)[0], one) for one in routes]
        self._target_of = lru_cache(maxsize=256)(self._look_up)
        self._waiting: list[tuple[_Asked, Question]] = []

    def take(
        self,
        url: bytes,
        given: Headers,
        body: bytes,
        client: tuple[str, int] | None,
        send: Send,
    ) -> bool:
        """See to it that a whole POST is answered by the end of this turn of the event loop.

        Returns:
            False, the request has to go the ordinary way; nothing was done.
        """
        started = time.perf_counter()
        target, headers = self._target_of(url), dict(given)
        if (
            target is None
            or len(body) > self._largest
            or self._context.is_full
            or len(headers) != len(given)
            or not _UNUSUAL.isdisjoint(headers)
        ):
            return False
        facts = RequestFacts(request_id_for(headers.get(REQUEST_ID)).decode("ascii"))
        request = Request(target.path, headers, body, started, facts)
        asked = _Asked(request, UNKNOWN_ROUTE, client, send)
        try:
            self._services.access.check(target.need, headers)
            asked = _Asked(request, target.route.path, client, send)
            question = target.route.read(self._services, request)
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            self._finish(asked, _explain(request, error))
            return True
        if self._waiting and self._waiting[0][1].served is not question.served:
            self.flush()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((asked, question))
        return True

    def flush(self) -> None:
        """Answer what waits, now: questions to one release."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._answer(waiting)

    def _answer(self, waiting: Sequence[tuple[_Asked, Question]]) -> None:
        try:
            answers = answer(self._services, [question for _, question in waiting])
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            if len(waiting) > 1:
                # What is wrong with one must not be the others' fault.
                for one in waiting:
                    self._answer([one])
                return
            answers = [_explain(waiting[0][0].request, error)]
        for (asked, _), found in zip(waiting, answers, strict=True):
            self._finish(asked, found)

    def _finish(self, asked: _Asked, found: Answer) -> None:
        """Count, log and send an answer."""
        request, route, client, send = asked
        seconds = time.perf_counter() - request.started
        self._services.metrics.requested(route, "POST", found.status, seconds)
        if found.status >= 500 or self._logs_all:
            token = current_request.set(request.facts)
            self._context.answered("POST", request.path, client, found.status, seconds)
            current_request.reset(token)
        send(found, request.facts.request_id)

    def _look_up(self, url: bytes) -> _Target | None:
        """The route of a URL that stands for its path letter by letter."""
        if not url.isascii() or any(mark in url for mark in (b"?", b"%", b"#")):
            return None
        path = url.decode("ascii")
        route = next((one for known, one in self._routes if known.fullmatch(path)), None)
        return None if route is None else _Target(route, path, needed("POST", path))


def _explain(request: Request, error: Exception) -> Answer:
    """The answer to a request that could not be answered."""
    if isinstance(error, ProblemError):
        return problem_answer(error, request.path)
    token = current_request.set(request.facts)
    logger.error("POST %s failed", request.path, exc_info=error)
    current_request.reset(token)
    return problem_answer(our_failure(), request.path)
