"""uvicorn's HTTP/1.1 with two changes: whole answers in one write, and patience at the end.

uvicorn writes the head and the body of an answer separately, which are two system calls and two
packets; most of the time of a small answer goes there.

When it stops, uvicorn closes idle connections at once. A client that has just sent its next
request on one then sees a reset instead of an answer, and may not repeat a POST. So an idle
connection stays open for a moment; what arrives in that moment is answered, with
``Connection: close``.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LINGER_SECONDS = 0.5
_HELD_BYTES = 64 * 1024


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    _is_draining = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        joining = JoiningTransport(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, joining))

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        super().on_headers_complete()
        if self._is_draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """End the connection after the request that is being answered or may be on its way."""
        self._is_draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self.loop.call_later(_LINGER_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class JoiningTransport:
    """A transport that joins what is written within one turn of the event loop."""

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
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HELD_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is held and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._held_bytes = 0
            self._transport.writelines(held)
