"""A transport that writes whole answers.

uvicorn writes the head and the body of an answer separately, which are two system calls and two
packets; most of the time of a small answer goes there.
"""

import asyncio
from typing import Any

_HELD_BYTES = 64 * 1024


class JoiningTransport:
    """Joins what is written within one turn of the event loop."""

    __slots__ = ("_held", "_held_bytes", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Wrap the transport of a connection."""
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        """Everything else is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon; at once when it is much, so that the writer notices a slow reader."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HELD_BYTES:
            self.flush()

    def write_whole(self, data: bytes) -> None:
        """Write an answer that is complete, after what is held."""
        self.flush()
        self._transport.write(data)

    def close(self) -> None:
        """Write what is held and close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            held, self._held = self._held, []
            self._held_bytes = 0
            # The client may have left meanwhile.
            if not self._transport.is_closing():
                self._transport.writelines(held)
