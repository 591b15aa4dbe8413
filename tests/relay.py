"""A network that can be cut: passes TCP connections on until it is told not to."""

import socket
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any


class Relay(ThreadingTCPServer):
    """Listens on a port of its own and passes every connection on to another."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _PassOn)
        self.port = int(self.server_address[1])
        self.target = ("127.0.0.1", target_port)
        self.open: set[socket.socket] = set()
        self.is_cut = False
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and every new one as soon as it is made."""
        self.is_cut = True
        for one in self.open.copy():
            _end(one)

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The target does not answer, which is what the client sees, too."""


class _PassOn(BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        if self.server.is_cut:
            return
        with socket.create_connection(self.server.target) as target:
            both = {self.request, target}
            self.server.open |= both
            back = Thread(target=_copy, args=(target, self.request), daemon=True)
            back.start()
            _copy(self.request, target)
            back.join()
            self.server.open -= both


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
