"""uvicorn's HTTP/1.1 with a fast path, and with bounds of heads, connections and silence.

For a small ``POST /predict`` that has arrived whole, ASGI's task and messages cost more than all
the rest. So it never comes to uvicorn: it is answered in the next turn of the event loop, together
with what else has arrived by then. Eight rows are predicted and logged nearly as quickly as one.
All else takes the ordinary path, and so does what is at fault: no error is told here.

What asks for another protocol is answered in this one, as RFC 9110 (section 7.8) allows: Java's
client asks for HTTP/2 with every first request, and the parser would then take no body.
"""

import asyncio
import resource
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_for_mle.serving import context
from mlops_for_mle.serving.errors import JSON_TYPE
from mlops_for_mle.serving.predict import PATH, Inference, answer, read_predict
from mlops_for_mle.serving.request import Request, current_request
from mlops_for_mle.serving.services import Services

_START = b"POST %b HTTP/1.1\r\n" % PATH.encode()
# Requests with these (compressed, in parts, from a page) are for the ordinary path.
_UNUSUAL = frozenset({b"content-encoding", b"transfer-encoding", b"origin", b"sec-fetch-site"})
# Beside what arrives in one read, which uvloop makes 256 KiB at most.
_MAX_HEAD_BYTES = 64 * 1024
# After which Linux ends a connection whose client takes nothing of its answer.
_UNREAD_SECONDS = 30.0
# So many requests of a connection may wait for the one before them; each takes some kilobytes.
_MAX_WAITING = 100
# What the spool, the database and the rest of the process need beside connections.
_RESERVED_FILES = 96
# What a client says when it would rather speak another protocol.
_UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


_HEADERS = _lines(((b"content-type", JSON_TYPE), *context.PROTECTIVE_HEADERS))


def allow_many_connections() -> None:
    """Raise the number of files that this process may open as far as it can be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Pending(NamedTuple):
    connection: "ServingProtocol"
    inference: Inference
    data: bytes


class _Parsed:
    """What a parser finds in some bytes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.begun = self.ended = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


class FastPath:
    """Gives the answers that the application would give; for one event loop."""

    def __init__(self, services: Services, middleware: context.RequestMiddleware) -> None:
        self._services, self._middleware = services, middleware
        self._max_bytes = min(context.MAX_INLINE_BODY_BYTES, services.settings.max_body_bytes)
        self._waiting: list[_Pending] = []

    def take(self, connection: "ServingProtocol", data: bytes) -> bool:
        """Have a POST /predict answered, one row in the next turn; False if it is anything else."""
        if (
            len(data) > self._max_bytes
            or not data.startswith(_START)
            or self._middleware.is_full
            or self._services.log.refuses
        ):
            return False
        started, parsed = time.perf_counter(), _Parsed()
        try:
            httptools.HttpRequestParser(parsed).feed_data(data)
            headers = dict(parsed.headers)
            if (
                not parsed.begun == parsed.ended == 1
                or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
                or len(headers) != len(parsed.headers)
                or not _UNUSUAL.isdisjoint(headers)
            ):
                return False
            self._services.access.check("predict", headers)
            request_id = context.id_of(headers)
            request = Request(
                *("POST", PATH, headers, connection.client, started, request_id),
                body=parsed.body,
                route=PATH,
            )
            inference = read_predict(self._services, request)
        except Exception:  # noqa: BLE001  (the ordinary path says what is wrong)
            return False
        pending = _Pending(connection, inference, data)
        if inference.rows.matrices:
            self._answer([pending])
            return True
        if not self._waiting:
            # A turn later, so that what others send meanwhile is answered with it.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(self.flush))
        elif self._waiting[0].inference.served is not inference.served:
            self.flush()
        connection.is_waiting = True
        self._waiting.append(pending)
        return True

    def flush(self) -> None:
        """Answer all that wait."""
        pending, self._waiting = self._waiting, []
        if pending:
            self._answer(pending)

    def _answer(self, pending: Sequence[_Pending]) -> None:
        try:
            answers = answer(self._services, [one.inference for one in pending])
        except Exception:  # noqa: BLE001  (what is wrong with one must not refuse the others)
            for one in pending:
                one.connection.is_waiting = False
                if not one.connection.transport.is_closing():
                    one.connection.pass_to_uvicorn(one.data)
            return
        for one, result in zip(pending, answers, strict=True):
            self._send(one.connection, one.inference.request, result.body)

    def _send(self, connection: "ServingProtocol", request: Request, body: bytes) -> None:
        token = current_request.set(request)
        self._middleware.answered(request, 200)
        # What is logged next is of another request.
        current_request.reset(token)
        connection.is_waiting = False
        if connection.transport.is_closing():
            return
        state = connection.server_state
        connection.transport.write(
            b"%b%bcontent-length: %d\r\n%bx-request-id: %b\r\n\r\n%b"
            % (
                STATUS_LINE[200],
                _lines(state.default_headers),
                len(body),
                _HEADERS,
                request.request_id.encode(),
                body,
            )
        )
        state.total_requests += 1
        connection.await_head()


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    # Whether an answer of the fast path is still to come.
    is_waiting = False
    # Whether a part of a request has been read, but not its end.
    _is_reading = False
    # What was read since the last head, or part of a body, that is whole.
    _head_bytes = 0

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        # The application's own, looked up through the layers around it.
        application: Any = self.app
        while not hasattr(application, "fast_path"):
            application = application.app
        self._fast: FastPath | None = application.fast_path

    @property
    def is_busy(self) -> bool:
        """Whether somebody works on a request of this connection."""
        return self.is_waiting or (self.cycle is not None and not self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; where there are very many, end an idle one for it."""
        super().connection_made(transport)
        if sys.platform == "linux":
            option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNREAD_SECONDS * 1000))
            transport.get_extra_info("socket").setsockopt(*option)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if len(self.connections) > max(files - _RESERVED_FILES, files // 4):
            rest = (cast(ServingProtocol, other) for other in self.connections if other is not self)
            # One that was ended in this turn is among them until the next.
            alive = (other for other in rest if not other.transport.is_closing())
            idle = next((other for other in alive if not other.is_busy), self)
            idle.transport.abort()
        self.await_head()

    def await_head(self) -> None:
        """Bound the wait for a head as for an idle connection, as uvicorn does after answers."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        # Answers leave in the order of the requests.
        self._answer_what_waits()
        is_free = not (self._is_reading or self.is_busy or self.flow.write_paused)
        if self._fast is None or not is_free or not self._fast.take(self, data):
            self.pass_to_uvicorn(data)

    def pass_to_uvicorn(self, data: bytes) -> None:
        """Let uvicorn read what has arrived."""
        self._head_bytes += len(data)
        try:
            while data:
                chunk, data = data, b""
                try:
                    self.parser.feed_data(chunk)
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._without_upgrade() + chunk[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            # Its context is what has failed in one of the methods below.
            self._refuse("Invalid HTTP request received.", error.__context__)
        else:
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._refuse(f"The head of the request is larger than {_MAX_HEAD_BYTES} bytes.")

    def eof_received(self) -> None:
        """Answer what waits before the transport closes: the client may still read."""
        self._answer_what_waits()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self._is_reading = True

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        self._head_bytes = 0
        if len(self.pipeline) == _MAX_WAITING:
            raise httptools.HttpParserError("too many requests wait")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("this is no proxy")
            return
        self._unset_keepalive_if_required()
        super().on_headers_complete()
        # What comes behind a chunked body is no header, least of all one that says what is in it.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that the request is whole."""
        self._head_bytes = 0
        if not self.parser.should_upgrade():
            self._is_reading = False
            super().on_message_complete()

    def shutdown(self) -> None:
        """End the connection after the requests that are being answered."""
        self._answer_what_waits()
        super().shutdown()

    def _without_upgrade(self) -> bytes:
        """The head again, without the other protocol at which the parser has stopped."""
        version = self.parser.get_http_version().encode()
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        headers = (pair for pair in self.headers if pair[0] not in _UPGRADE_HEADERS)
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn does, so that a request behind one that closes is refused in order.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join((first, *(b"%b: %b" % pair for pair in headers), b"\r\n"))

    def _answer_what_waits(self) -> None:
        if self.is_waiting and self._fast is not None:
            self._fast.flush()

    def _refuse(self, message: str, failure: BaseException | None = None) -> None:
        self.logger.warning(message, exc_info=failure)
        self.send_400_response(message)
