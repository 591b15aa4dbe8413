"""Rows to learn from, and two ways to hold some of them back."""

from pathlib import Path

import pandas as pd
from psycopg2.extensions import connection as Connection

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
TARGET = "target"
COLUMNS = [*FEATURES, TARGET]

NEWEST = f"SELECT {', '.join(COLUMNS)} FROM iris_data ORDER BY id DESC LIMIT %s"

# Rows to learn from, and rows to validate on.
Split = tuple[pd.DataFrame, pd.DataFrame]


def read_table(connection: Connection, newest: int) -> pd.DataFrame:
    """The newest rows of ``iris_data``, oldest first, with the columns ``COLUMNS``."""
    with connection, connection.cursor() as cursor:
        cursor.execute(NEWEST, (newest,))
        return pd.DataFrame(cursor.fetchall()[::-1], columns=COLUMNS)


def read_csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV file, with the columns ``COLUMNS`` and no other.

    Raises:
        ValueError: A column is missing, or a value is no number.
    """
    types = dict.fromkeys(FEATURES, "float64") | {TARGET: "int64"}
    return pd.read_csv(path, usecols=COLUMNS, dtype=types)[COLUMNS]


def random_split(rows: pd.DataFrame, fraction: float, seed: int) -> Split:
    """Hold back a fraction of the rows, chosen at random; the same ones for the same seed."""
    validation = rows.sample(frac=fraction, random_state=seed)
    return rows.drop(validation.index), validation


def hash_split(rows: pd.DataFrame, fraction: float) -> Split:
    """Hold back about a fraction of the distinct rows; equal features fall on one side."""
    hashes = pd.util.hash_pandas_object(rows[FEATURES], index=False)
    is_validation = hashes % 1000 < 1000 * fraction
    return rows[~is_validation], rows[is_validation]


def leak(split: Split) -> float:
    """The share of validation rows whose features also stand in training."""
    training, validation = (set(part[FEATURES].itertuples(index=False)) for part in split)
    known = [row in training for row in split[1][FEATURES].itertuples(index=False)]
    return sum(known) / len(known) if validation else 0.0
