"""How many requests are worked on at once, and for how long."""

import asyncio
import contextvars
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from mlops_for_mle.serving.http.problems import ProblemError

Result = TypeVar("Result")
Argument = TypeVar("Argument")

_SWEEPS_IN_A_TIMEOUT = 10


class RequestGate:
    """Lets so many requests in, cancels those that take too long, lends threads to large ones.

    One timer looks over all requests, so that a small one pays for no timer of its own. Used by
    one event loop; ``run`` moves work into threads.
    """

    def __init__(self, max_concurrency: int, timeout_seconds: float) -> None:
        """Set the bounds; threads are started when they are first needed."""
        self._max_concurrency = max_concurrency
        self.timeout_seconds = timeout_seconds
        self._inside: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._is_sweeping = False
        self._threads: ThreadPoolExecutor | None = None

    @property
    def is_full(self) -> bool:
        """Whether as many as are allowed are inside."""
        return len(self._inside) >= self._max_concurrency

    def enter(self, started: float) -> "asyncio.Task[object]":
        """Let the current task in; it must leave.

        Args:
            started: ``time.perf_counter()`` at the arrival of the request.

        Raises:
            ProblemError: 429, as many as are allowed are inside.
        """
        if self.is_full:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"The server is working on {self._max_concurrency} requests and takes no more "
                "(MLOPS_MAX_CONCURRENCY); try again later",
                headers={"Retry-After": "1"},
            )
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered outside of a task")
        self._inside[task] = started
        if not self._is_sweeping:
            self._sweep_later()
        return task

    def leave(self, task: "asyncio.Task[object]") -> None:
        """Let a task out."""
        self._inside.pop(task, None)
        self._expired.discard(task)

    def has_expired(self, task: "asyncio.Task[object]") -> bool:
        """Whether a task that is being cancelled has taken too long, and no more than that."""
        if task not in self._expired:
            return False
        return task.uncancel() == 0

    async def run(self, work: Callable[[Argument], Result], argument: Argument) -> Result:
        """Do work in a thread, so that other requests are answered meanwhile."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                max_workers=max(2, min(4, os.cpu_count() or 1)), thread_name_prefix="large-request"
            )
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, context.run, work, argument
        )

    def stop(self) -> None:
        """Give the threads back; work that has not begun is dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _sweep_later(self) -> None:
        self._is_sweeping = True
        pause = self.timeout_seconds / _SWEEPS_IN_A_TIMEOUT
        asyncio.get_running_loop().call_later(pause, self._sweep)

    def _sweep(self) -> None:
        oldest = time.perf_counter() - self.timeout_seconds
        for task, started in self._inside.items():
            if started < oldest and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        if self._inside:
            self._sweep_later()
        else:
            self._is_sweeping = False


def timed_out(seconds: float) -> ProblemError:
    """The answer 504 to a request that took too long."""
    return ProblemError(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"The request took longer than {seconds:g} seconds (MLOPS_REQUEST_TIMEOUT_SECONDS)",
    )


def body_timed_out(seconds: float) -> ProblemError:
    """The answer 408 to a client that did not send its body in time."""
    return ProblemError(
        HTTPStatus.REQUEST_TIMEOUT,
        f"The body did not arrive within {seconds:g} seconds (MLOPS_REQUEST_TIMEOUT_SECONDS)",
        headers={"Connection": "close"},
    )
