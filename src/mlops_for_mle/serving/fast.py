"""uvicorn's HTTP/1.1 with a short way, and with bounds of heads, connections and silence.

For a small POST that has arrived whole and is answered in microseconds, ASGI's task and messages
cost more than all the rest. So it is answered in the next turn of the event loop, together with
what else has arrived by then: eight rows are predicted and logged nearly as quickly as one.
Keys, ids, limits, routes, errors and counts are those of the ordinary way, where all else goes.

What asks for another protocol is answered in this one, as RFC 9110 (section 7.8) allows: Java's
client asks for HTTP/2 with every first request, and the parser would then take no body.
"""

import asyncio
import logging
import resource
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import httptools
from starlette.routing import compile_path
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_for_mle.serving import context
from mlops_for_mle.serving.errors import Answer, ProblemError, our_failure, problem_answer
from mlops_for_mle.serving.keys import Need, needed
from mlops_for_mle.serving.predict import HotRoute, Question, answer
from mlops_for_mle.serving.request import Request, current_request
from mlops_for_mle.serving.services import Services

# Requests with these (compressed, in parts, from a page) are for the ordinary way.
_UNUSUAL = frozenset({b"content-encoding", b"transfer-encoding", b"origin", b"sec-fetch-site"})
# Beside what arrives in one read, which uvloop makes 256 KiB at most.
_LARGEST_HEAD = 64 * 1024
# After which Linux ends a connection whose client takes nothing of its answer.
_UNREAD_SECONDS = 30.0
# So many requests of a connection may wait for the one before them; each takes some kilobytes.
_MOST_WAITING = 100
# What the spool, the database and the rest of the process need beside connections.
_RESERVED_FILES = 96
# What a client says when it would rather speak another protocol.
_UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})

logger = logging.getLogger(__name__)


@lru_cache(maxsize=16)
def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


_PROTECTION = _lines(context.PROTECTIVE_HEADERS)


def allow_many_connections() -> None:
    """Raise the number of files that this process may open as far as it can be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _most_connections() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(files - _RESERVED_FILES, files // 4)


class FastWay:
    """Gives the answers that the application would give; for one event loop."""

    def __init__(
        self,
        services: Services,
        surrounding: context.RequestContext,
        routes: Sequence[HotRoute],
    ) -> None:
        self._services, self._context = services, surrounding
        self._largest = min(context.LARGEST_AT_ONCE, services.settings.max_body_bytes)
        self._routes = [(compile_path(route.path)[0], route) for route in routes]
        self._target_of = lru_cache(maxsize=256)(self._look_up)
        self._waiting: list[_Asked] = []

    def take(self, connection: "ServingProtocol", body: bytes) -> bool:
        """Have a whole POST answered in the next turn; False where it goes the ordinary way."""
        started, received = time.perf_counter(), connection.received_headers
        target, headers = self._target_of(connection.url), dict(received)
        if (
            target is None
            or len(body) > self._largest
            or self._context.is_full
            or len(headers) != len(received)
            or not _UNUSUAL.isdisjoint(headers)
        ):
            return False
        route, path, need = target
        client = connection.client
        request = Request("POST", path, headers, client, started, context.id_of(headers), body)
        connection.is_waiting = True
        try:
            self._services.access.check(need, headers)
            request.route = route.path
            question = route.read(self._services, request)
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            self._send(connection, request, error)
            return True
        if question.rows.matrices:
            self.flush([(connection, question)])
            return True
        if not self._waiting:
            # A turn later, so that what others send meanwhile is answered with it.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(self.flush))
        elif self._waiting[0][1].served is not question.served:
            self.flush()
        self._waiting.append((connection, question))
        return True

    def flush(self, asked: "list[_Asked] | None" = None) -> None:
        """Answer some questions together now, or all that wait."""
        if asked is None:
            asked, self._waiting = self._waiting, []
        if not asked:
            return
        results: Sequence[Answer | Exception]
        try:
            results = answer(self._services, [question for _, question in asked])
        except Exception as error:  # noqa: BLE001  (each becomes an answer)
            if len(asked) > 1:
                # What is wrong with one question must not refuse the others.
                for pair in asked:
                    self.flush([pair])
                return
            results = [error]
        for (connection, question), result in zip(asked, results, strict=True):
            self._send(connection, question.request, result)

    def _send(
        self, connection: "ServingProtocol", request: Request, result: Answer | Exception
    ) -> None:
        token = current_request.set(request)
        if isinstance(result, Exception):
            if not isinstance(result, ProblemError):
                logger.error("POST %s failed", request.path, exc_info=result)
                result = our_failure()
            result = problem_answer(result, request.path)
        self._context.answered(request, result.status)
        # What is logged next is of another request.
        current_request.reset(token)
        connection.is_waiting = False
        if connection.transport.is_closing():
            return
        state, body = connection.server_state, result.body
        connection.transport.write(
            b"%b%bcontent-length: %d\r\ncontent-type: %b\r\n%bx-request-id: %b\r\n\r\n%b"
            % (
                STATUS_LINE[result.status],
                _lines(tuple(state.default_headers)),
                len(body),
                result.content_type,
                _lines(result.headers) + _PROTECTION,
                request.request_id.encode(),
                body,
            )
        )
        state.total_requests += 1
        connection.await_head()

    def _look_up(self, url: bytes) -> tuple[HotRoute, str, Need] | None:
        """The route, path and needed scope of a URL that is nothing but a path; else None."""
        if any(mark in url for mark in (b"?", b"%", b"#")):
            return None
        path = url.decode("ascii")
        route = next((hot for pattern, hot in self._routes if pattern.fullmatch(path)), None)
        return None if route is None else (route, path, needed("POST", path))


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    # Whether an answer of the short way is still to come.
    is_waiting = False
    # Those of the request; uvicorn's own list takes the trailers of a chunked body.
    received_headers: list[tuple[bytes, bytes]]
    # The body of a request that may be answered at once; None while there is no such request.
    _withheld: bytes | None = None
    # The size of the head, or trailers, being read, without its first part; None outside of one.
    _head_bytes: int | None = None

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        # The application's own, looked up through the layers around it.
        application: Any = self.app
        while not hasattr(application, "fast_way"):
            application = application.app
        self._fast: FastWay = application.fast_way

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
        if len(self.connections) > _most_connections():
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
        """Take what has arrived; a request that has not arrived whole goes the ordinary way."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        try:
            while data:
                chunk, data = data, b""
                try:
                    self.parser.feed_data(chunk)
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._without_upgrade() + chunk[upgrade.args[0] :]
            if self._withheld is not None:
                self._go_the_ordinary_way()
        except httptools.HttpParserError as error:
            # Its context is what has failed in one of the methods below.
            self._refuse("Invalid HTTP request received.", error.__context__)
        else:
            if self._head_bytes is not None and self._head_bytes > _LARGEST_HEAD:
                self._refuse(f"The head of the request is larger than {_LARGEST_HEAD} bytes.")

    def eof_received(self) -> None:
        """Answer what waits before the transport closes: the client may still read."""
        self._answer_what_waits()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def on_message_begin(self) -> None:
        """Begin to read a head; the rest of uvicorn's own beginning is for the ordinary way."""
        self.url, self.received_headers, self.headers = b"", [], []
        self.expect_100_continue, self._head_bytes = False, 0

    def on_headers_complete(self) -> None:
        """Let a request go the ordinary way, or wait and see whether its body has arrived too."""
        self._head_bytes = None
        # What comes behind a chunked body is no header, least of all one that says what is in it.
        self.received_headers, self.headers = self.headers, []
        # Answers leave in the order of the requests.
        self._answer_what_waits()
        if len(self.pipeline) == _MOST_WAITING:
            raise httptools.HttpParserError("too many requests wait")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("this is no proxy")
        elif (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            # uvicorn fails at other URLs, and only within a call of the parser is that a refusal.
            and self.url.startswith(b"/")
            and self.url.isascii()
            and not (self.flow.write_paused or self.is_busy)
        ):
            self._withheld = b""
        else:
            self._go_the_ordinary_way()

    def on_chunk_header(self) -> None:
        """Bound what follows as a head is: behind the last chunk it is headers once more."""
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._head_bytes = None
        if self._withheld is None:
            super().on_body(body)
        else:
            self._withheld += body

    def on_message_complete(self) -> None:
        """Take note that the request is whole."""
        if self.parser.should_upgrade():
            return
        if self._withheld is not None:
            if self._fast.take(self, self._withheld):
                self._withheld = None
                return
            self._go_the_ordinary_way()
        super().on_message_complete()

    def shutdown(self) -> None:
        """End the connection after the requests that are being answered."""
        self._answer_what_waits()
        super().shutdown()

    def _without_upgrade(self) -> bytes:
        """The head again, without the other protocol at which the parser has stopped."""
        version = self.parser.get_http_version().encode()
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        headers = (pair for pair in self.received_headers if pair[0] not in _UPGRADE_HEADERS)
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn does, so that a request behind one that closes is refused in order.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join((first, *(b"%b: %b" % pair for pair in headers), b"\r\n"))

    def _answer_what_waits(self) -> None:
        if self.is_waiting:
            self._fast.flush()

    def _go_the_ordinary_way(self) -> None:
        body, self._withheld = self._withheld, None
        self._unset_keepalive_if_required()
        url, expects = self.url, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.scope["headers"] = self.received_headers
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _refuse(self, message: str, failure: BaseException | None = None) -> None:
        self._withheld = None
        self._answer_what_waits()
        self.logger.warning(message, exc_info=failure)
        self.send_400_response(message)


_Asked = tuple[ServingProtocol, Question]
