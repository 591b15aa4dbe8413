"""Loads one route of one server and says how quickly it answered.

Small bodies are sent by ``wrk`` where it is installed, because it takes little of the processors
that it shares with the server. Large bodies, and all where there is no ``wrk``, are sent by
``keep_alive_client.py``, which waits for every request that it has sent.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent

Generator = Literal["wrk", "own"]

_LARGEST_WRK_BODY = 64 * 1024
_PATIENCE_SECONDS = 300.0


class LoadError(Exception):
    """The load generator failed."""


@dataclass(frozen=True)
class Load:
    """What a load run found.

    Attributes:
        requests: Answers with status 200.
        errors: Other answers, and connections that broke.
        seconds: How long it ran.
        median_ms: Median of the time from request to answer.
        p99_ms: Its 99th percentile.
    """

    requests: int
    errors: int
    seconds: float
    median_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0


def default_generator() -> Generator:
    """The quicker of the generators that are here."""
    return "wrk" if shutil.which("wrk") else "own"


def choose(wanted: Generator, body: Path) -> Generator:
    """The generator that sends this body."""
    return wanted if body.stat().st_size <= _LARGEST_WRK_BODY else "own"


def run(
    wanted: Generator,
    url: str,
    body: Path,
    connections: int,
    seconds: int,
    most_requests: int = sys.maxsize,
) -> Load:
    """Send the body again and again.

    Args:
        wanted: What sends it if the body is small.
        url: The route.
        body: The file that holds the body.
        connections: How many requests are under way at once.
        seconds: How long.
        most_requests: After so many it is over, too, if the body is large.

    Raises:
        LoadError: The generator did not come to its end.
    """
    environment = dict(os.environ)
    if choose(wanted, body) == "wrk":
        environment["BENCHMARK_BODY"] = str(body)
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds}s", "--timeout", "60s"]
        command += ["--script", str(HERE / "load.lua"), url]
    else:
        command = [sys.executable, str(HERE / "keep_alive_client.py"), url, str(body)]
        command += ["--connections", str(connections), "--seconds", str(seconds)]
        command += ["--requests", str(most_requests)]
    return _finish(command, environment, seconds)


def run_count(url: str, body: Path, connections: int, requests: int) -> Load:
    """Send the body a number of times.

    Raises:
        LoadError: The generator did not come to its end.
    """
    command = [sys.executable, str(HERE / "keep_alive_client.py"), url, str(body)]
    command += ["--connections", str(connections), "--requests", str(requests)]
    command += ["--seconds", str(_PATIENCE_SECONDS)]
    return _finish(command, dict(os.environ), 0)


def _finish(command: list[str], environment: dict[str, str], seconds: int) -> Load:
    try:
        finished = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{command[0]} did not end in time") from error
    lines = finished.stdout.strip().splitlines()
    if finished.returncode != 0 or not lines:
        raise LoadError(f"{' '.join(command)}: {finished.stderr.strip()[-500:]}")
    return Load(**json.loads(lines[-1]))
