"""What is known of a request, from its arrival to its answer."""

from contextvars import ContextVar

import msgspec

from mlops_for_mle.serving.errors import ProblemError
from mlops_for_mle.serving.keys import Headers


class Request(msgspec.Struct):
    """A request that is being answered.

    Attributes:
        started: ``time.perf_counter()`` at its arrival.
        request_id: The client's ``X-Request-ID``, or one that was made for it.
        caller: See ``Access.check``.
        route: What metrics say of it, also where it was answered before it came to a route.
        prediction_id: Of one row; row ``i`` of several is ``<prediction_id>-<i>``, counted from 0.
        is_cancelled: Whether nobody waits for the answer any more.
    """

    method: str
    path: str
    headers: Headers
    client: tuple[str, int] | None
    started: float
    request_id: str
    body: bytes = b""
    caller: str | None = None
    route: str = "(unknown)"
    prediction_id: str = ""
    is_cancelled: bool = False

    def raise_if_cancelled(self) -> None:
        """Raise ProblemError where nobody waits for the answer any more."""
        if self.is_cancelled:
            raise ProblemError(400, "The client has left")


current_request: ContextVar[Request] = ContextVar("current_request")
"""The request that is being answered: for routes, log lines, and whatever works on it for long."""
