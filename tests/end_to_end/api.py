"""The prediction API as `kedro serve` starts it."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from course.conftest import Program
from tests.end_to_end.commands import Project
from tests.servers import status_of


@contextmanager
def served(project: Project, *options: str) -> Iterator[httpx.Client]:
    """A client of a server that is ready; it is stopped afterwards and must end in order."""
    command = [sys.executable, "-m", "kedro", "serve", "--port", "0", *options]
    log = project.folder / f"server-{time.monotonic_ns()}.log"
    server = Program(command, project.folder, log, project.environment)
    try:
        server.until(lambda: _address(server.output), 90)
        address = _address(server.output)
        server.until(lambda: status_of(f"{address}/health/ready") == 200, 90)
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client
    finally:
        server.stop()
        code = server.ends(90)
    assert code == 0, server.output


def predict(client: httpx.Client, row: Any) -> dict[str, Any]:
    """The answer for one row, or for many in a list, which must be 200."""
    answer = client.post("/predict", json=row)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _address(said: str) -> str:
    found = re.search(r"Listening on (http://[^\s\"]+)", said)
    return found[1] if found else ""
