"""Rows to learn from, and two ways to hold some of them back."""

from pathlib import Path

import pandas as pd
from psycopg2.extensions import connection as Connection

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
TARGET = "target"
COLUMNS = [*FEATURES, TARGET]

# Rows to learn from, and rows to validate on.
Split = tuple[pd.DataFrame, pd.DataFrame]


def read_table(connection: Connection, newest: int) -> pd.DataFrame:
    """The newest rows of ``iris_data``, oldest first, with the columns ``COLUMNS``."""
    raise NotImplementedError("step 1: a query with ORDER BY and LIMIT, its rows as a DataFrame")


def read_csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV file, with the columns ``COLUMNS`` and no other.

    Raises:
        ValueError: A column is missing, or a value is no number.
    """
    raise NotImplementedError("step 1: pandas.read_csv with usecols and dtype")


def random_split(rows: pd.DataFrame, fraction: float, seed: int) -> Split:
    """Hold back a fraction of the rows, chosen at random; the same ones for the same seed."""
    raise NotImplementedError("step 2: DataFrame.sample, and what is left")


def leak(split: Split) -> float:
    """The share of validation rows whose features also stand in training."""
    raise NotImplementedError("step 2: look up each validation row among those of training")


def hash_split(rows: pd.DataFrame, fraction: float) -> Split:
    """Hold back about a fraction of the distinct rows; equal features fall on one side."""
    raise NotImplementedError("step 3: a number from the features decides")
