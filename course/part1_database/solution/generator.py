"""Inserts random flowers into ``iris_data``: ``python generator.py``; Ctrl-C ends it."""

import csv
import itertools
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

from database import connect, database_url

# Four measurements in centimetres, and the class: 0, 1 or 2.
Row = tuple[float, float, float, float, int]

INSERT = """
INSERT INTO iris_data (sepal_length, sepal_width, petal_length, petal_width, target, source)
VALUES (%s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class Settings:
    """What the environment says; the defaults are the tutorial's one row a second."""

    rows_per_batch: int = 1
    interval_seconds: float = 1.0
    batches: int | None = None
    source: str = "generator"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read ROWS_PER_BATCH, INTERVAL_SECONDS, BATCHES (none: until stopped) and SOURCE.

    Raises:
        SystemExit: A value is no number; the message names its variable.
    """
    found: dict[str, int | float | str] = {}
    kinds = {"rows_per_batch": int, "interval_seconds": float, "batches": int, "source": str}
    for name, kind in kinds.items():
        if text := environment.get(name.upper()):
            try:
                found[name] = kind(text)
            except ValueError:
                raise SystemExit(f"{name.upper()} must be {kind.__name__}, not {text!r}") from None
    return Settings(**found)  # type: ignore[arg-type]


def read_flowers(path: Path) -> list[Row]:
    """The rows of a CSV file with a header line."""
    with path.open(newline="") as file:
        lines = list(csv.reader(file))[1:]
    return [(float(a), float(b), float(c), float(d), int(target)) for a, b, c, d, target in lines]


def insert_rows(connection: Connection, rows: Sequence[Row], source: str) -> None:
    """Insert all of the rows or, if anything fails, none."""
    with connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, [(*row, source) for row in rows])


def run(url: str, settings: Settings) -> None:
    """Insert batch after batch; go on when the database has come back."""
    flowers = read_flowers(Path(__file__).with_name("iris.csv"))
    connection = connect(url)
    for number in itertools.count(1):
        rows = random.choices(flowers, k=settings.rows_per_batch)
        while True:
            try:
                insert_rows(connection, rows, settings.source)
                break
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                print(f"Trying again: {str(error).strip()}", flush=True)
                connection = connect(url)
        print(f"Batch {number}: {len(rows)} row(s) inserted.", flush=True)
        if number == settings.batches:
            return
        time.sleep(settings.interval_seconds)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        run(database_url(), read_settings(os.environ))
