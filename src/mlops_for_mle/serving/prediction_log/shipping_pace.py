"""How fast the prediction log is shipped: requests come first, until the spool fills up."""

import time
from collections.abc import Callable

# Even an idle process may be asked something while its log is shipped.
_SHORTEST_REST = 0.0002
_QUIET_SECONDS = 0.1
_REST_TO_WORK = 3.0


class ShippingPace:
    """Says how long to rest after a piece of shipping.

    Shipping a row costs more than predicting it by columns, and it holds the interpreter's lock.
    So while requests come in, only a quarter of the time goes into shipping; what waits meanwhile
    lies in the spool. Once that is half full, shipping no longer steps back.
    """

    def __init__(self, is_half_full: Callable[[], bool]) -> None:
        """Ask ``is_half_full`` whether the spool fills up."""
        self._is_half_full = is_half_full
        self._answered_at = 0

    def answered(self, answered_at: int) -> None:
        """Note that a request was answered, in nanoseconds since 1970."""
        self._answered_at = answered_at

    def rest_after(self, seconds: float) -> float:
        """The seconds to rest after so many seconds of shipping."""
        quiet = (time.time_ns() - self._answered_at) / 1e9
        if quiet > _QUIET_SECONDS or self._is_half_full():
            return _SHORTEST_REST
        return max(_SHORTEST_REST, seconds * _REST_TO_WORK)
