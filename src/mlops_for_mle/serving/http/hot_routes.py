"""The hot routes: predictions by whatever protocol, answered without a framework."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from mlops_for_mle.serving.data_plane import DataPlane, Question
from mlops_for_mle.serving.http.asgi import HotAnswer, HotRequest, problem_answer, send_answer
from mlops_for_mle.serving.http.bodies import decode_body, is_encoded, read_body
from mlops_for_mle.serving.http.problems import ProblemError, our_failure
from mlops_for_mle.serving.http.request_gate import body_timed_out, timed_out
from mlops_for_mle.serving.recording import AnsweredPredictions
from mlops_for_mle.serving.services import Services

# What is larger is read and answered in a thread; about a hundred rows.
_LARGEST_INLINE_BODY = 32 * 1024

logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What a request asks, and how its answer is written."""

    question: Question
    write: Callable[[AnsweredPredictions], HotAnswer]


class HotRoute:
    """An ASGI endpoint for one method: reads a question, has it answered, writes the answer."""

    method = "POST"

    def __init__(
        self,
        path: str,
        ask: Callable[[HotRequest], Asked],
        services: Services,
        write_problem: Callable[[ProblemError], HotAnswer] = problem_answer,
        plane: DataPlane | None = None,
    ) -> None:
        """Name the route and what it asks.

        Args:
            path: May have parts in braces, which stand for anything but a slash.
            ask: Reads a request; may raise ``ProblemError``.
            services: What bounds, answers and counts the requests.
            write_problem: How the route's protocol words an error.
            plane: What answers, where it is not that of the services.
        """
        self.path = path
        self.ask = ask
        self.plane = plane or services.data_plane
        self.write_problem = write_problem
        self._gate = services.gate
        self._max_body_bytes = services.settings.max_body_bytes
        self._largest_at_once = min(_LARGEST_INLINE_BODY, self._max_body_bytes)
        self._metrics = services.metrics

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
                answer = await gate.run(self._decode_and_answer, request)
            elif len(body) > _LARGEST_INLINE_BODY:
                answer = await gate.run(self._answer, request)
            else:
                answer = self._answer(request)
        except ProblemError as problem:
            answer = self.write_problem(problem)
        except asyncio.CancelledError:
            if task is None or not gate.has_expired(task):
                raise
            late = body_timed_out if body is None else timed_out
            answer = self.write_problem(late(gate.timeout_seconds))
        except Exception:
            logger.exception("%s %s failed", self.method, self.path)
            answer = self.failure()
        finally:
            if task is not None:
                gate.leave(task)
        await send_answer(send, answer)
        self.count(answer.status, started, scope["method"])

    def takes_at_once(self, body: bytes) -> bool:
        """Whether a body is small enough to be answered without waiting, and there is room."""
        return len(body) <= self._largest_at_once and not self._gate.is_full

    def count(self, status: int, started: float, method: str = method) -> None:
        """Take note of an answer to a request that has arrived at that time."""
        route = self.path if method == self.method else f"{method} {self.path}"
        self._metrics.requested(route, status, time.perf_counter() - started)

    def failure(self) -> HotAnswer:
        """The answer to a failure of ours."""
        return self.write_problem(our_failure())

    def _answer(self, request: HotRequest) -> HotAnswer:
        question, write = self.ask(request)
        return write(self.plane.predict(question))

    def _decode_and_answer(self, request: HotRequest) -> HotAnswer:
        body = decode_body(request.body, request.headers, self._max_body_bytes)
        return self._answer(request._replace(body=body))

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
        endpoint = self.find(scope["path"]) or self._others
        await endpoint(scope, receive, send)

    def find(self, path: str) -> HotRoute | None:
        """The hot route of a decoded path, if it is one of theirs."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        for pattern, route in self._patterns:
            if pattern.fullmatch(path):
                return route
        return None
