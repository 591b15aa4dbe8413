"""uvicorn's HTTP/1.1 with a short way, bounds of connections, and patience.

A small POST that has arrived whole may be answered at once, see ``fast``. The head of a request is
bounded in size and time, and so are silence and answers that nobody reads. What asks for another
protocol is answered in this one, as RFC 9110 (section 7.8) allows; some clients always ask for
HTTP/2. When the server stops, an idle connection stays open for a moment: a client that has just
sent its next request would see a reset instead of an answer, and may not repeat a POST.
"""

import asyncio
import resource
from contextlib import suppress
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_for_mle.serving.fast import FastWay, WholePost

# Beside what arrives in one read, which uvloop makes 256 KiB at most.
_LARGEST_HEAD = 64 * 1024
_HEAD_SECONDS = 30.0
_UNREAD_SECONDS = 30.0
_LINGER_SECONDS = 0.5
# What the spool, the database and the rest of the process need beside connections.
_RESERVED_FILES = 96
# What a client says when it would rather speak another protocol.
_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})


def allow_many_connections() -> None:
    """Raise the number of files that this process may open as far as it can be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _most_connections() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED_FILES


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    _is_draining = False
    # Whether an answer that is given at once is still on its way.
    _is_waiting = False
    # The body of a request that may be answered at once; None while there is no such request.
    _withheld: bytes | None = None
    # When the head that is being read began, by the clock of the event loop; None outside of one.
    _head_began: float | None = None
    _head_bytes = 0
    _unread: asyncio.TimerHandle | None = None
    _server_lines: tuple[object, bytes] = (None, b"")

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        """Prepare for a connection."""
        super().__init__(config, *arguments, **options)
        self._fast = fast_way_of(self.app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, in the place of an idle one where there are very many."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            others = (cast(ServingProtocol, one) for one in self.connections if one is not self)
            idle = next((one for one in others if not one.is_busy), self)
            idle.transport.abort()
        self._limit_silence()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; a request that has not arrived whole goes the ordinary way."""
        self._unset_keepalive_if_required()
        if self._head_began is not None:
            self._head_bytes += len(data)
        try:
            self._feed(data)
            if self._withheld is not None:
                self._go_the_ordinary_way()
        except httptools.HttpParserError as error:
            failure = error.__context__
            if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
                failure, httptools.HttpParserError
            ):
                self.logger.exception("A request could not be read.", exc_info=failure)
                self._refuse(500, "The server failed to read this request.")
            else:
                self._refuse(400, "Invalid HTTP request received.")
            return
        if self._head_began is not None and self._head_bytes > _LARGEST_HEAD:
            self._refuse(431, f"The head of the request is larger than {_LARGEST_HEAD} bytes.")
            return
        self._limit_silence()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; what it has asked is still answered.

        Returns:
            Whether the connection stays open for that.
        """
        self._answer_what_waits()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        if self._unread is not None:
            self._unread.cancel()

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        super().on_message_begin()
        self._head_began = self.loop.time()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or wait whether its body is there too."""
        self._head_began = None
        # What comes behind a chunked body is no header, least of all one that says what is in it.
        self.headers = []
        # Answers leave in the order of the requests.
        self._answer_what_waits()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("this is no proxy")
        elif self._is_plain_post():
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
        if self.parser.should_upgrade():
            return
        if self._withheld is not None:
            if self._is_taken(self._withheld):
                self._withheld = None
                return
            self._go_the_ordinary_way()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client reads slowly, or not at all."""
        super().pause_writing()
        self._look_whether_it_reads(None)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def shutdown(self) -> None:
        """End the connection after the request that is being answered or may be on its way."""
        self._is_draining = True
        if self.is_busy and self.cycle is not None:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(_LINGER_SECONDS, self._close_if_idle)

    @property
    def is_busy(self) -> bool:
        """Whether somebody works on a request of this connection."""
        return self._is_waiting or (self.cycle is not None and not self.cycle.response_complete)

    def _feed(self, data: bytes) -> None:
        """Let the parser read; where it stops for another protocol, it begins anew without it."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                # As uvicorn does, so that a request behind one that closes is refused in order.
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        for name, value in self.scope["headers"]:
            if name == b"connection":
                tokens = (one.strip() for one in value.split(b","))
                left = (one for one in tokens if one.lower() not in _UPGRADE_HEADERS)
                lines.append(b"connection: %b\r\n" % b", ".join(left))
            elif name not in _UPGRADE_HEADERS:
                lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join([*lines, b"\r\n"])

    def _is_plain_post(self) -> bool:
        """Whether nothing about the request or the connection needs the ordinary way."""
        parser = self.parser
        return (
            self._fast is not None
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not (self.expect_100_continue or self._is_draining or self.flow.write_paused)
            and not self.is_busy
        )

    def _is_taken(self, body: bytes) -> bool:
        if self._fast is None:
            return False
        headers = cast(list[tuple[bytes, bytes]], self.scope["headers"])
        lines = self._lines_of_the_server()
        self._is_waiting = True
        post = WholePost(self.url, headers, body, self.client, lines, self._send_whole)
        if self._fast.take(post):
            return True
        self._is_waiting = False
        return False

    def _send_whole(self, answer: bytes) -> None:
        self._is_waiting = False
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.on_response_complete()

    def _answer_what_waits(self) -> None:
        if self._fast is not None and self._is_waiting:
            self._fast.flush()

    def _lines_of_the_server(self) -> bytes:
        """What uvicorn puts into every answer; it makes a new list each second, for the date."""
        known, lines = self._server_lines
        headers = self.server_state.default_headers
        if headers is not known:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
            self._server_lines = (headers, lines)
        return lines

    def _go_the_ordinary_way(self) -> None:
        body, self._withheld = self._withheld, None
        self._begin()
        if body:
            super().on_body(body)

    def _begin(self) -> None:
        path = httptools.parse_url(self.url).path
        if path is None or not path.isascii():
            raise httptools.HttpParserError("the path is no path")
        super().on_headers_complete()
        self._unset_keepalive_if_required()
        if self._is_draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def _limit_silence(self) -> None:
        """Close the connection in a while, unless somebody works on it."""
        if self.is_busy or self.timeout_keep_alive_task or self.transport.is_closing():
            return
        seconds: float = self.timeout_keep_alive
        if self._head_began is not None:
            seconds = max(0.0, self._head_began + _HEAD_SECONDS - self.loop.time())
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _look_whether_it_reads(self, before: int | None) -> None:
        """End the connection when nothing of an answer was read for a while."""
        left = self.transport.get_write_buffer_size()
        if left == before:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(_UNREAD_SECONDS, self._look_whether_it_reads, left)

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no request, after what was asked before it, and close."""
        self._withheld = None
        self.logger.warning(message)
        self._answer_what_waits()
        cycle = self.cycle
        if cycle is not None and not (cycle.response_complete or cycle.more_body):
            # What comes first is answered first, and is the last.
            cycle.keep_alive = False
            return
        if self.transport.is_closing():
            return
        content = message.encode("ascii")
        self.transport.write(
            b"%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b"
            % (STATUS_LINE[status], self._lines_of_the_server(), len(content), content)
        )
        self.transport.close()

    def _close_if_idle(self) -> None:
        if not self.is_busy:
            self.transport.close()


def fast_way_of(application: Any) -> FastWay | None:
    """What an application offers, looked up through what uvicorn has wrapped around it."""
    while application is not None:
        found = getattr(application, "fast_way", None)
        if isinstance(found, FastWay):
            return found
        application = getattr(application, "app", None)
    return None
