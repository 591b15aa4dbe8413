"""The server's protocol on a real socket, in a thread beside the test, and requests as bytes."""

import asyncio
import json
import re
import socket
import threading
import time
from itertools import takewhile
from typing import Any, BinaryIO, Self

from uvicorn.config import Config
from uvicorn.server import ServerState

from mlops_for_mle.serving.fast import ServingProtocol
from tests.serving.conftest import IRIS_ROW, Client

ROW = json.dumps(IRIS_ROW).encode()


class Server(Client):
    """An application that is asked through the protocol on a real socket, within ``with``."""

    keep_alive_seconds = 75.0

    def __enter__(self) -> Self:
        self.loop, self.state = asyncio.new_event_loop(), ServerState()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        config = Config(
            self.application,
            lifespan="off",
            access_log=False,
            log_config=None,
            ws="none",
            timeout_keep_alive=self.keep_alive_seconds,
        )
        config.load()
        self.state.default_headers = [(b"date", b"today")]
        begins = self.loop.create_server(
            lambda: ServingProtocol(config, self.state, {}), "127.0.0.1", 0
        )
        self._listening = asyncio.run_coroutine_threadsafe(begins, self.loop).result()
        self.address = self._listening.sockets[0].getsockname()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self._listening.close()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=90)

    def exchange(self, *parts: bytes, answers: int = 1) -> list[bytes]:
        """Send the parts with a pause between them; gives the answers."""
        with self.connect() as channel:
            for index, part in enumerate(parts):
                time.sleep(0.02 if index else 0)
                channel.sendall(part)
            stream = channel.makefile("rb")
            return [_read_answer(stream) for _ in range(answers)]

    def ask_in_one_turn(self, *requests: bytes) -> list[bytes]:
        """Each request on a connection of its own; all are there when the server looks."""
        channels = [self.connect() for _ in requests]
        time.sleep(0.05)

        def send() -> None:
            for channel, content in zip(channels, requests, strict=True):
                channel.sendall(content)

        self.loop.call_soon_threadsafe(send)
        found = [_read_answer(one.makefile("rb")) for one in channels]
        for channel in channels:
            channel.close()
        return found

    def say(self, content: bytes) -> bytes:
        """Send something; gives all that comes until the server ends the connection."""
        with self.connect() as channel:
            channel.sendall(content)
            return channel.makefile("rb").read()


def _read_answer(stream: BinaryIO) -> bytes:
    lines = iter(stream.readline, b"")
    head = b"".join(takewhile(lambda line: line != b"\r\n", lines))
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    return head + b"\r\n" + stream.read(length)


def parts_of(
    body: bytes | Any = ROW, path: str = "/predict", **headers: str
) -> tuple[bytes, bytes]:
    """Head and body of a POST."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    given = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode(), body


def request(body: bytes | Any = ROW, path: str = "/predict", **headers: str) -> bytes:
    """The same as a whole."""
    return b"".join(parts_of(body, path, **headers))


def masked(answer: bytes) -> bytes:
    """An answer without what differs each time."""
    identifier = rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    answer = re.sub(identifier, b"(prediction)", answer)
    return re.sub(rb"x-request-id: [0-9a-f]{32}", b"x-request-id: (made)", answer)


def status_of(answer: bytes) -> int:
    return int(answer[9:12])
