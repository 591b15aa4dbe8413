"""The server's protocol on a real socket, in the test's own event loop, and requests as bytes."""

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from mlops_for_mle.serving.fast import ServingProtocol
from tests.serving.conftest import IRIS_ROW, Client

ROW = json.dumps(IRIS_ROW).encode()


class Server(Client):
    """An application that is asked through the protocol on a real socket."""

    keep_alive_seconds: float = 75
    protocol_class = ServingProtocol

    def run(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What is found while the server listens."""

        async def running() -> Any:
            loop = asyncio.get_running_loop()
            config = Config(
                self.application,
                lifespan="off",
                access_log=False,
                log_config=None,
                ws="none",
                timeout_keep_alive=self.keep_alive_seconds,
            )
            config.load()
            self.state = ServerState()
            self.state.default_headers = [(b"date", b"today")]
            listening = await loop.create_server(
                lambda: self.protocol_class(config, self.state, {}), "127.0.0.1", 0
            )
            self.address = listening.sockets[0].getsockname()
            async with listening:
                return await ask()

        return asyncio.run(running())

    def ask(self, *parts: bytes, answers: int = 1) -> list[bytes]:
        """What is answered on one connection, as ``exchange`` has it."""
        return self.run(lambda: self.exchange(*parts, answers=answers))

    def ask_in_one_turn(self, *requests: bytes) -> list[bytes]:
        """Each request on a connection of its own; all are there when the server looks."""

        async def ask() -> list[bytes]:
            channels = [socket.create_connection(self.address) for _ in requests]
            await asyncio.sleep(0.05)
            for channel, content in zip(channels, requests, strict=True):
                channel.sendall(content)
            found = []
            for channel in channels:
                channel.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=channel)
                found.append(await _read_answer(reader))
                writer.close()
            return found

        return self.run(ask)

    async def exchange(self, *parts: bytes, answers: int = 1) -> list[bytes]:
        """Send the parts with a pause between them; gives the answers."""
        reader, writer = await asyncio.open_connection(*self.address)
        for index, part in enumerate(parts):
            if index:
                await asyncio.sleep(0.02)
            writer.write(part)
        found = [await _read_answer(reader) for _ in range(answers)]
        writer.close()
        return found

    async def say(self, content: bytes) -> bytes:
        """Send something; gives all that comes until the server ends the connection."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(content)
        return await asyncio.wait_for(reader.read(), 90)


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 90)
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    return head + await reader.readexactly(length)


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
