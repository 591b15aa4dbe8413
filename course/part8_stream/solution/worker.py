"""Has each waiting row predicted: ``python worker.py``; with ``--once`` until none waits."""

import os
import sys
import time
from contextlib import suppress

import httpx
import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor

from answers import ApiUnavailableError, Predicted, Refused, ask, sort_answers
from database import connect, database_url

TAKE = """
SELECT id, sepal_length, sepal_width, petal_length, petal_width
FROM waiting JOIN iris_data ON id = row_id
ORDER BY id LIMIT %s
FOR UPDATE OF waiting SKIP LOCKED
"""
PREDICTED = """
INSERT INTO predictions (row_id, iris_class, model) VALUES (%(row_id)s, %(iris_class)s, %(model)s)
"""
REFUSED = "INSERT INTO dead_letters (row_id, reason) VALUES (%(row_id)s, %(reason)s)"
DONE = "DELETE FROM waiting WHERE row_id = ANY(%s)"

# Seconds between two looks at an empty queue, and at most between two tries of an API that is down.
PAUSE, LONGEST_PAUSE = 0.2, 10.0


def work(connection: Connection, client: httpx.Client, rows_per_batch: int) -> int:
    """Take waiting rows, ask about each, and write what was answered, in one transaction.

    Returns:
        How many rows were taken: 0 where none waits that no other worker has.

    Raises:
        ApiUnavailableError: The API failed; what it had answered before is written.
    """
    failure = None
    answers: dict[int, Predicted | Refused] = {}
    with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(TAKE, (rows_per_batch,))
        rows = cursor.fetchall()
        for row in rows:
            try:
                answers[row["id"]] = ask(client, row)
            except ApiUnavailableError as error:
                failure = error
                break
        predictions, letters = sort_answers(answers)
        cursor.executemany(PREDICTED, predictions)
        cursor.executemany(REFUSED, letters)
        cursor.execute(DONE, (list(answers),))
    if failure:
        raise failure
    return len(rows)


def run(url: str, client: httpx.Client, rows_per_batch: int, once: bool) -> None:
    """Work until stopped, or until nothing waits; go on when API and database have come back."""
    connection = connect(url)
    pause = PAUSE
    while True:
        try:
            taken = work(connection, client, rows_per_batch)
        except ApiUnavailableError as error:
            if once:
                raise SystemExit(f"The API cannot answer, the rows wait: {error}") from None
            print(f"Asking again in {pause:g} s: {error}", flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            continue
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            print(f"Connecting again: {str(error).strip()}", flush=True)
            connection = connect(url)
            continue
        pause = PAUSE
        if taken:
            print(f"{taken} row(s) answered.", flush=True)
        elif once:
            return
        else:
            time.sleep(PAUSE)


def main() -> None:
    """Read the settings, and work."""
    timeout = float(os.environ.get("TIMEOUT_SECONDS", "2"))
    rows_per_batch = int(os.environ.get("ROWS_PER_BATCH", "10"))
    api_url = os.environ.get("API_URL", "http://localhost:8000")
    with httpx.Client(base_url=api_url, timeout=timeout) as client, suppress(KeyboardInterrupt):
        run(database_url(), client, rows_per_batch, "--once" in sys.argv)


if __name__ == "__main__":
    main()
