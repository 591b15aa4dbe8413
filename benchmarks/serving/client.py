"""A load generator in one thread, of the standard library alone: keep-alive HTTP/1.1 connections.

    python client.py URL FILE CONNECTIONS SECONDS REQUESTS

Each connection sends the same request again as soon as it has the answer. What was sent is waited
for, so that every bit of the server's work belongs to a counted answer. It takes about 10 µs of a
processor a request, half of what the no-op server takes: as with wrk, the server is the limit.
"""

import json
import re
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SILENCE_SECONDS = 60.0


def is_complete(answer: bytes) -> bool:
    """Whether an HTTP answer has arrived to its end; without a length it is chunked."""
    head = answer.find(b"\r\n\r\n")
    if found := CONTENT_LENGTH.search(answer, 0, max(head, 0)):
        return len(answer) >= head + 4 + int(found[1])
    return answer.endswith(b"\r\n0\r\n\r\n")


def run(url: str, body: bytes, connections: int, seconds: float, requests: int) -> dict[str, Any]:
    """Load a server until the time is over or the requests are sent, whichever comes first.

    Returns:
        Answers with status 200, errors (other answers and broken connections), and seconds from the
        first request to the last answer.
    """
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    selector = selectors.DefaultSelector()
    received: dict[socket.socket, bytes] = {}
    answered, errors, unsent = 0, 0, requests - min(connections, requests)

    def begin(channel: socket.socket) -> None:
        received[channel] = b""
        channel.sendall(request)

    start = now = time.perf_counter()
    for _ in range(requests - unsent):
        channel = socket.create_connection((parts.hostname, parts.port), timeout=SILENCE_SECONDS)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(channel, selectors.EVENT_READ)
        begin(channel)
    while under_way := len(selector.get_map()):
        events = selector.select(SILENCE_SECONDS)
        if not events:
            errors += under_way
            break
        for key, _ in events:
            channel: Any = key.fileobj
            try:
                data = channel.recv(1 << 16)
                if not data:
                    raise ConnectionResetError
                received[channel] += data
                if not is_complete(received[channel]):
                    continue
                now = time.perf_counter()
                if received[channel].startswith(b"HTTP/1.1 200"):
                    answered += 1
                else:
                    errors += 1
                if unsent and now < start + seconds:
                    unsent -= 1
                    begin(channel)
                else:
                    selector.unregister(channel)
            except OSError:
                errors += 1
                selector.unregister(channel)
    return {"requests": answered, "errors": errors, "seconds": now - start}


if __name__ == "__main__":
    _, url, file, connections, seconds, requests = sys.argv
    body = Path(file).read_bytes()
    print(json.dumps(run(url, body, int(connections), float(seconds), int(requests))))
