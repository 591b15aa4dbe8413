"""A request to stop that also wakes a process which waits for its database."""

import os
import select
import signal
from types import FrameType
from typing import Protocol


class Stopping(Protocol):
    """A request to stop, as somebody who works sees it: this or ``threading.Event``."""

    def is_set(self) -> bool:
        """Whether somebody has asked."""

    def wait(self, seconds: float, /) -> bool:
        """Sleep, but no longer than until the request; whether there was one."""


class StopSignal:
    """Set by SIGINT, SIGTERM or a call; can be waited for together with a connection."""

    def __init__(self) -> None:
        """Begin not set."""
        self._is_set = False
        self._receiver, self._sender = os.pipe()
        os.set_blocking(self._sender, False)

    def catch_signals(self) -> None:
        """Be set by SIGINT and SIGTERM from now on, instead of ending the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._caught)

    def set(self) -> None:
        """Ask to stop."""
        if not self._is_set:
            self._is_set = True
            os.write(self._sender, b"\0")

    def is_set(self) -> bool:
        """Whether somebody has asked."""
        return self._is_set

    def fileno(self) -> int:
        """What ``select`` waits for: readable from the moment of the request on."""
        return self._receiver

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until the request; whether there was one."""
        select.select([self], [], [], seconds)
        return self._is_set

    def _caught(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.set()
