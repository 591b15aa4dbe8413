"""Where the database is, and a connection to it as soon as it is ready."""

import os
import time

import psycopg2
from psycopg2.extensions import connection as Connection


def database_url() -> str:
    """The value of DATABASE_URL; the program ends with a sentence where it is not set."""
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        raise SystemExit(
            "Set DATABASE_URL, such as postgresql://myuser:mypassword@localhost:5432/mydatabase"
        )
    return url


def connect(url: str, patience: float = 30.0) -> Connection:
    """Connect, trying again for ``patience`` seconds while the database is not ready.

    Raises:
        psycopg2.OperationalError: It was not ready in time; says why.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return psycopg2.connect(url, connect_timeout=5)
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)
