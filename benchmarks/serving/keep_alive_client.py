"""A load generator in one thread, of the standard library alone: keep-alive HTTP/1.1 connections.

    python keep_alive_client.py http://127.0.0.1:8000/predict body.json --connections 8 --seconds 2

Each connection sends the same request again as soon as it has the answer. At the end no request is
cut off: what was sent is waited for, so that every bit of the server's work belongs to a counted
answer. Prints one JSON object.
"""

import argparse
import json
import re
import selectors
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
SILENCE_SECONDS = 60.0


@dataclass
class Result:
    """What a load run found.

    Attributes:
        requests: Answers with status 200.
        errors: Other answers, and connections that broke.
        seconds: From the first request to the last answer.
        median_ms: Median of the time from request to answer.
        p99_ms: Its 99th percentile.
    """

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    median_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass(eq=False)
class Connection:
    """One connection with the request that is under way on it."""

    address: tuple[str, int]
    request: bytes
    channel: socket.socket = field(init=False)
    received: bytearray = field(default_factory=bytearray)
    sent: int = 0
    started: float = 0.0

    def open(self) -> None:
        self.channel = socket.create_connection(self.address, timeout=10)
        self.channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel.setblocking(False)

    def begin(self) -> bool:
        """Send the request.

        Returns:
            Whether all of it could be handed over at once.
        """
        self.received.clear()
        self.sent = 0
        self.started = time.perf_counter()
        return self.send_rest()

    def send_rest(self) -> bool:
        view = memoryview(self.request)
        while self.sent < len(self.request):
            try:
                self.sent += self.channel.send(view[self.sent :])
            except BlockingIOError:
                return False
        return True

    def receive(self) -> bool:
        """Read what has arrived.

        Returns:
            Whether the answer is complete.

        Raises:
            ConnectionError: The server has ended the connection.
        """
        data = self.channel.recv(1 << 18)
        if not data:
            raise ConnectionResetError
        self.received += data
        return is_complete(self.received)


def is_complete(answer: bytes | bytearray) -> bool:
    """Whether an HTTP answer has arrived to its end."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    if found := CONTENT_LENGTH.search(answer, 0, head):
        return len(answer) >= head + 4 + int(found[1])
    if CHUNKED.search(answer, 0, head):
        return answer.endswith(b"\r\n0\r\n\r\n")
    raise ValueError(f"The answer says nothing about its length: {bytes(answer[:200])!r}")


def make_request(url: str, body: bytes) -> tuple[tuple[str, int], bytes]:
    """The address and the bytes of a POST of JSON."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    lines = (
        f"POST {parts.path or '/'} HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "\r\n",
    )
    return address, "\r\n".join(lines).encode() + body


def run(url: str, body: bytes, connections: int, seconds: float, requests: int) -> Result:
    """Load a server until the time is over or the requests are sent, whichever comes first."""
    address, request = make_request(url, body)
    selector = selectors.DefaultSelector()
    result = Result()
    latencies: list[float] = []
    unsent = requests
    under_way = 0

    def begin(connection: Connection) -> None:
        nonlocal unsent, under_way
        unsent -= 1
        under_way += 1
        interest = selectors.EVENT_READ
        if not connection.begin():
            interest |= selectors.EVENT_WRITE
        key = selector.get_map().get(connection.channel)
        if key is None:
            selector.register(connection.channel, interest, connection)
        elif key.events != interest:
            selector.modify(connection.channel, interest, connection)

    opened = [Connection(address, request) for _ in range(min(connections, requests))]
    for connection in opened:
        connection.open()
    start = now = time.perf_counter()
    deadline = start + seconds
    for connection in opened:
        begin(connection)
    while under_way:
        events = selector.select(SILENCE_SECONDS)
        if not events:
            result.errors += under_way
            break
        for key, mask in events:
            connection = key.data
            try:
                if mask & selectors.EVENT_WRITE:
                    if connection.send_rest():
                        selector.modify(connection.channel, selectors.EVENT_READ, connection)
                    continue
                if not connection.receive():
                    continue
            except ConnectionError:
                result.errors += 1
                selector.unregister(connection.channel)
                connection.channel.close()
                connection.open()
            else:
                now = time.perf_counter()
                if connection.received[8:13] == b" 200 ":
                    latencies.append(now - connection.started)
                else:
                    result.errors += 1
            under_way -= 1
            if unsent > 0 and now < deadline:
                begin(connection)
    for connection in opened:
        connection.channel.close()
    return _summed_up(result, latencies, now - start)


def _summed_up(result: Result, latencies: list[float], seconds: float) -> Result:
    result.requests = len(latencies)
    result.seconds = seconds
    if latencies:
        latencies.sort()
        result.median_ms = latencies[len(latencies) // 2] * 1e3
        result.p99_ms = latencies[int(len(latencies) * 0.99)] * 1e3
    return result


def main() -> None:
    """Run as a process, so that the load shares no interpreter lock with anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--requests", type=int, default=sys.maxsize)
    given = parser.parse_args()
    found = run(
        given.url, given.body.read_bytes(), given.connections, given.seconds, given.requests
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
