"""uvicorn's HTTP/1.1 with three changes: a short way, whole answers in one write, patience.

A request that has arrived whole, with a small body, may be answered at once: the application that
offers ``immediate`` answers is asked for them first. Everything else becomes an ASGI task.

uvicorn writes the head and the body of an answer separately, which are two system calls and two
packets; most of the time of a small answer goes there.

When it stops, uvicorn closes idle connections at once. A client that has just sent its next
request on one then sees a reset instead of an answer, and may not repeat a POST. So an idle
connection stays open for a moment; what arrives in that moment is answered, with
``Connection: close``.
"""

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlops_for_mle.serving.http.immediate import ImmediateAnswers, WholeRequest

_LINGER_SECONDS = 0.5
_HELD_BYTES = 64 * 1024


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    _is_draining = False
    # Whether an answer that is given at once is still on its way.
    _is_waiting = False
    # The body of a request that may be answered at once; None while there is no such request.
    _withheld: bytes | None = None

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        """Prepare for a connection."""
        super().__init__(config, *arguments, **options)
        self._immediate = immediate_answers(self.app)
        self._server_headers: tuple[object, bytes] = (None, b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        self._joining = JoiningTransport(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._joining))

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; a request that has not arrived whole goes the ordinary way."""
        super().data_received(data)
        if self._withheld is not None and not self.transport.is_closing():
            self._go_the_ordinary_way()

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or wait whether its body is there too."""
        if self._immediate is not None and self._is_waiting:
            # Answers leave in the order of the requests.
            self._immediate.flush()
        if self._immediate is not None and self._is_plain_post():
            self._withheld = b""
        else:
            self._begin()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._withheld is None:
            super().on_body(body)
        else:
            self._withheld += body

    def on_message_complete(self) -> None:
        """Take note that the request is whole."""
        if self._withheld is not None:
            if self._is_taken(self._withheld):
                self._withheld = None
                return
            self._go_the_ordinary_way()
        super().on_message_complete()

    def _is_plain_post(self) -> bool:
        """Whether nothing about the request or the connection needs the ordinary way."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not (parser.should_upgrade() or self.expect_100_continue)
            and not (self._is_draining or self.flow.write_paused)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _is_taken(self, body: bytes) -> bool:
        if self._immediate is None:
            return False
        request = WholeRequest(
            self.url,
            self.headers,
            body,
            self.client,
            self._lines_of_the_server(),
            self._send_whole,
        )
        self._is_waiting = True
        if self._immediate.take(request):
            return True
        self._is_waiting = False
        return False

    def _send_whole(self, answer: bytes) -> None:
        self._is_waiting = False
        if not self.transport.is_closing():
            self._joining.write_whole(answer)
            self.on_response_complete()

    def _lines_of_the_server(self) -> bytes:
        """What uvicorn puts into every answer; it makes a new list each second, for the date."""
        known, lines = self._server_headers
        headers = self.server_state.default_headers
        if headers is not known:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
            self._server_headers = (headers, lines)
        return lines

    def _go_the_ordinary_way(self) -> None:
        body, self._withheld = self._withheld, None
        self._begin()
        if body:
            super().on_body(body)

    def _begin(self) -> None:
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


def immediate_answers(application: Any) -> ImmediateAnswers | None:
    """What an application offers, looked up through what uvicorn has wrapped around it."""
    while application is not None:
        found = getattr(application, "immediate", None)
        if isinstance(found, ImmediateAnswers):
            return found
        application = getattr(application, "app", None)
    return None


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

    def write_whole(self, data: bytes) -> None:
        """Write an answer that is complete, after what is held."""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        """Write what is held and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._held_bytes = 0
            self._transport.writelines(held)
