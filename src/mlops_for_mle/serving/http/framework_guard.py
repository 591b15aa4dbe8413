"""Puts the bounds of the hot routes around the ordinary ones that change something."""

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_for_mle.serving.http.asgi import problem_answer, send_answer
from mlops_for_mle.serving.http.bodies import decode_body, is_encoded, read_body
from mlops_for_mle.serving.http.problems import ProblemError, our_failure
from mlops_for_mle.serving.http.request_gate import RequestGate, body_timed_out, timed_out

logger = logging.getLogger(__name__)

# Requests without a body may be long on purpose, such as a stream of events.
_UNBOUNDED = frozenset({"GET", "HEAD", "OPTIONS"})


class FrameworkGuard:
    """Reads each body within its limit before the framework sees the request."""

    def __init__(self, application: ASGIApp, gate: RequestGate, max_body_bytes: int) -> None:
        """Wrap the framework's application."""
        self._application = application
        self._gate = gate
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        task: asyncio.Task[object] | None = None
        body: bytes | None = None
        has_begun = False

        async def noting_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            if scope["method"] in _UNBOUNDED:
                await self._application(scope, receive, noting_send)
                return
            task = self._gate.enter(time.perf_counter())
            body = await self._body(scope, receive)
            await self._application(scope, _replay(body, receive), noting_send)
        except ProblemError as problem:
            await send_answer(send, problem_answer(problem))
        except asyncio.CancelledError:
            if task is None or has_begun or not self._gate.has_expired(task):
                raise
            late = body_timed_out if body is None else timed_out
            await send_answer(send, problem_answer(late(self._gate.timeout_seconds)))
        except Exception:
            # The framework has answered and raises again, upon which uvicorn would end the
            # connection without a word.
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not has_begun:
                await send_answer(send, problem_answer(our_failure()))
        finally:
            if task is not None:
                self._gate.leave(task)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        body = await read_body(receive, headers, self._max_body_bytes)
        if b"content-encoding" not in headers or not is_encoded(headers):
            return body
        return decode_body(body, headers, self._max_body_bytes)


def _replay(body: bytes, receive: Receive) -> Receive:
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
