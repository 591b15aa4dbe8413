"""uvicorn's HTTP/1.1 with a short way, and with bounds of heads, connections and silence.

A small POST that has arrived whole may be answered at once, see ``fast``. What asks for another
protocol is answered in this one, as RFC 9110 (section 7.8) allows: Java's client asks for HTTP/2
with every first request, and the parser would then take no body.
"""

import asyncio
import resource
from contextlib import suppress
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_for_mle.serving.context import PROTECTIVE_HEADERS, Answer
from mlops_for_mle.serving.fast import FastWay

# Beside what arrives in one read, which uvloop makes 256 KiB at most.
_LARGEST_HEAD = 64 * 1024
_UNREAD_SECONDS = 30.0
# What the spool, the database and the rest of the process need beside connections.
_RESERVED_FILES = 96
# What a client says when it would rather speak another protocol.
_UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})
_PROTECTIVE = b"".join(b"%b: %b\r\n" % pair for pair in PROTECTIVE_HEADERS)


def allow_many_connections() -> None:
    """Raise the number of files that this process may open as far as it can be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _most_connections() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED_FILES


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    # Whether an answer that is given at once is still on its way.
    _is_waiting = False
    # The body of a request that may be answered at once; None while there is no such request.
    _withheld: bytes | None = None
    # The size of the head that is being read, without its first part; None outside of one.
    _head_bytes: int | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        """Prepare for a connection."""
        super().__init__(config, *arguments, **options)
        # What the application offers, looked up through what uvicorn has wrapped around it.
        application: Any = self.app
        while application is not None and not hasattr(application, "fast_way"):
            application = getattr(application, "app", None)
        self._fast: FastWay | None = getattr(application, "fast_way", None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, in the place of an idle one where there are very many."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            others = (cast(ServingProtocol, one) for one in self.connections if one is not self)
            idle = next((one for one in others if not one.is_busy), self)
            idle.transport.abort()
        # Until a first head is there; uvicorn does so after each answer.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; a request that has not arrived whole goes the ordinary way."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        try:
            self._feed(data)
            if self._withheld is not None:
                self._go_the_ordinary_way()
        except httptools.HttpParserError as error:
            # Its context is what has failed in one of the methods below.
            self._refuse("Invalid HTTP request received.", error.__context__)
        else:
            if self._head_bytes is not None and self._head_bytes > _LARGEST_HEAD:
                self._refuse(f"The head of the request is larger than {_LARGEST_HEAD} bytes.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._unread is not None:
            self._unread.cancel()

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or wait whether its body is there too."""
        self._head_bytes = None
        # Not before: a head has to arrive in the time of an idle connection.
        self._unset_keepalive_if_required()
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
            super().on_headers_complete()

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
        if self._withheld is not None and self._fast is not None:
            self._is_waiting = True
            headers = cast(list[tuple[bytes, bytes]], self.scope["headers"])
            if self._fast.take(self.url, headers, self._withheld, self.client, self._send_whole):
                self._withheld = None
                return
            self._is_waiting = False
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
        """End the connection after the requests that are being answered."""
        self._answer_what_waits()
        super().shutdown()

    @property
    def is_busy(self) -> bool:
        """Whether somebody works on a request of this connection."""
        return self._is_waiting or (self.cycle is not None and not self.cycle.response_complete)

    def _feed(self, data: bytes) -> None:
        """Let the parser read; where it stops for another protocol, it begins anew without it."""
        while True:
            try:
                return self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                version = self.parser.get_http_version().encode()
                first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
                kept = (one for one in self.scope["headers"] if one[0] not in _UPGRADE_HEADERS)
                lines = [first, *(b"%b: %b" % pair for pair in kept), b"\r\n"]
                data = b"\r\n".join(lines) + data[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn does, so that a request behind one that closes is refused in order.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _is_plain_post(self) -> bool:
        """Whether nothing about the request or the connection needs the ordinary way."""
        parser = self.parser
        return (
            self._fast is not None
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and self.url.startswith(b"/")
            and self.url.isascii()
            and not (self.expect_100_continue or self.flow.write_paused or self.is_busy)
        )

    def _send_whole(self, answer: Answer, request_id: str) -> None:
        """Send an answer, as RFC 9112 has it, with the headers that every answer has."""
        self._is_waiting = False
        if self.transport.is_closing():
            return
        own, ours = answer.headers, self.server_state.default_headers
        self.transport.write(
            b"%b%bcontent-length: %d\r\ncontent-type: %b\r\n%b%bx-request-id: %b\r\n\r\n%b"
            % (
                STATUS_LINE[answer.status],
                b"".join(b"%b: %b\r\n" % pair for pair in ours),
                len(answer.body),
                answer.content_type,
                b"".join(b"%b: %b\r\n" % pair for pair in own),
                _PROTECTIVE,
                request_id.encode(),
                answer.body,
            )
        )
        self.on_response_complete()

    def _answer_what_waits(self) -> None:
        if self._is_waiting and self._fast is not None:
            self._fast.flush()

    def _go_the_ordinary_way(self) -> None:
        body, self._withheld = self._withheld, None
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _look_whether_it_reads(self, before: int | None) -> None:
        """End the connection when nothing of an answer was read for a while."""
        left = self.transport.get_write_buffer_size()
        if left == before:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(_UNREAD_SECONDS, self._look_whether_it_reads, left)

    def _refuse(self, message: str, failure: BaseException | None = None) -> None:
        """Answer what is no request, and close."""
        self._withheld = None
        self._answer_what_waits()
        self.logger.warning(message, exc_info=failure)
        self.send_400_response(message)
