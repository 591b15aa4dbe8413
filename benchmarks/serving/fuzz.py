"""Sends wrong bodies to all predict routes of a running server and counts its answers.

    python -m mlops_for_mle.serving &
    python benchmarks/serving/fuzz.py --count 100000

The exit status is 1 when an answer was 5xx other than 503, or a connection broke without one.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.serving.bad_bodies import BadRequest, bad_requests

Statuses = Counter[tuple[str, int]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    started = time.perf_counter()
    statuses, failures = asyncio.run(
        fuzz(options.url, options.count, options.seed, options.connections)
    )
    for (path, status), count in sorted(statuses.items()):
        print(f"{path:24s} {status} {count:8d}")
    for failure in failures[:10]:
        print(failure)
    seconds = time.perf_counter() - started
    print(f"{sum(statuses.values())} answers in {seconds:.0f} s, {len(failures)} failures")
    return 1 if failures else 0


async def fuzz(url: str, count: int, seed: int, connections: int) -> tuple[Statuses, list[str]]:
    requests = bad_requests(seed, count)
    statuses: Statuses = Counter()
    failures: list[str] = []

    async def work() -> None:
        connection = Connection(url)
        for request in requests:
            try:
                status, body = await asyncio.wait_for(connection.ask(request), 60)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                failures.append(f"{request}: {type(error).__name__}: {error}")
                connection.close()
                continue
            statuses[request.path, status] += 1
            if status >= 500 and status != 503:
                failures.append(f"{request}: {status} {body!r}")
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return statuses, failures


class Connection:
    """One HTTP connection that is kept as long as the server keeps it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def ask(self, request: BadRequest) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        lines = [f"POST {request.path} HTTP/1.1", f"Host: localhost:{self._port}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"Content-Length: {len(request.body)}", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + request.body)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        body = await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection", b"").lower() == b"close":
            self.close()
        return status, body


if __name__ == "__main__":
    sys.exit(main())
