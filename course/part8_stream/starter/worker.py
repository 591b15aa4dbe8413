"""Has each waiting row predicted: ``python worker.py``; with ``--once`` until none waits."""

import os
import sys
from contextlib import suppress

import httpx
from psycopg2.extensions import connection as Connection

from database import database_url

# Step 4: the statements that take waiting rows, write answers and empty the queue.

# Seconds between two looks at an empty queue, and at most between two tries of an API that is down.
PAUSE, LONGEST_PAUSE = 0.2, 10.0


def work(connection: Connection, client: httpx.Client, rows_per_batch: int) -> int:
    """Take waiting rows, ask about each, and write what was answered, in one transaction.

    Returns:
        How many rows were taken: 0 where none waits that no other worker has.

    Raises:
        ApiUnavailableError: The API failed; what it had answered before is written.
    """
    raise NotImplementedError("step 4: take, ask, write and delete in one `with connection:`")


def run(url: str, client: httpx.Client, rows_per_batch: int, once: bool) -> None:
    """Work until stopped, or until nothing waits; go on when API and database have come back."""
    raise NotImplementedError("step 5: work in a loop; pause, or connect again, when need be")


def main() -> None:
    """Read the settings, and work."""
    timeout = float(os.environ.get("TIMEOUT_SECONDS", "2"))
    rows_per_batch = int(os.environ.get("ROWS_PER_BATCH", "10"))
    api_url = os.environ.get("API_URL", "http://localhost:8000")
    with httpx.Client(base_url=api_url, timeout=timeout) as client, suppress(KeyboardInterrupt):
        run(database_url(), client, rows_per_batch, "--once" in sys.argv)


if __name__ == "__main__":
    main()
