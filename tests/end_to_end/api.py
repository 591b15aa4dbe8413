"""The prediction API as `kedro serve` starts it."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.commands import Project
from tests.servers import eventually, status_of


@contextmanager
def served(project: Project, *options: str) -> Iterator[httpx.Client]:
    """A client of a server that is ready; it is stopped afterwards and must end in order."""
    log = project.folder / f"server-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "kedro", "serve", "--port", "0", *options],
            cwd=project.folder,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        assert eventually(lambda: _address(log) or process.poll() is not None)
        address = _address(log)
        assert address, log.read_text("utf-8")
        with httpx.Client(base_url=address, timeout=30) as client:
            is_ready = eventually(lambda: status_of(f"{address}/health/ready") == 200)
            assert is_ready, log.read_text("utf-8")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=90)
    assert code == 0, log.read_text("utf-8")


def predict(client: httpx.Client, row: Any) -> dict[str, Any]:
    """The answer for one row, or for many in a list, which must be 200."""
    answer = client.post("/predict", json=row)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _address(log: Path) -> str | None:
    found = re.search(r"Listening on (http://[^\s\"]+)", log.read_text("utf-8"))
    return found[1] if found else None
