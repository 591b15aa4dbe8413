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


@dataclass(frozen=True)
class Settings:
    """What the environment says; the defaults are the tutorial's one row a second."""

    rows_per_batch: int = 1
    interval_seconds: float = 1.0
    batches: int | None = None
    source: str = "generator"


def read_flowers(path: Path) -> list[Row]:
    """The rows of a CSV file with a header line."""
    with path.open(newline="") as file:
        lines = list(csv.reader(file))[1:]
    return [(float(a), float(b), float(c), float(d), int(target)) for a, b, c, d, target in lines]


def insert_rows(connection: Connection, rows: Sequence[Row], source: str) -> None:
    """Insert all of the rows or, if anything fails, none."""
    raise NotImplementedError("step 3: one transaction, values given beside the statement")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read ROWS_PER_BATCH, INTERVAL_SECONDS, BATCHES (none: until stopped) and SOURCE.

    Raises:
        SystemExit: A value is no number; the message names its variable.
    """
    raise NotImplementedError("step 4: text of the environment to numbers")


def run(url: str, settings: Settings) -> None:
    """Insert batch after batch; go on when the database has come back."""
    raise NotImplementedError("step 5: draw, insert, sleep; connect again when need be")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        run(database_url(), read_settings(os.environ))
