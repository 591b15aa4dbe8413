"""Rows of a Parquet file into the table of observations: read, validated, written by COPY."""

import time
from argparse import Namespace
from functools import partial

import numpy as np
import pandas as pd
from benchmarks.common import CACHE, Case, Checkout, Run, main

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
RANGES = ((4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5))


def cases(sides: list[Checkout], options: Namespace) -> list[Case]:
    for side in sides:
        side.deploy("iris")
    sizes = (150, options.rows // 10, options.rows)
    return [Case(f"{rows:,} rows", rows, partial(ingest, rows)) for rows in sizes]


def ingest(rows: int, side: Checkout) -> Run:
    """A file into the empty table; its rows are new, as what the ledger knows is left out."""
    file = CACHE / "iris.parquet"
    iris_rows(rows, seed=time.time_ns()).to_parquet(file)
    side.sql("TRUNCATE iris_data")
    parameters = f"source=parquet,parquet_path={file}"
    run = side.kedro("run", "--pipeline", "data_ingestion", "--params", parameters)
    assert side.sql("SELECT count(*) FROM iris_data") == rows
    return run


def iris_rows(rows: int, seed: int) -> pd.DataFrame:
    """Rows in the ranges of iris, with one decimal like it."""
    random = np.random.default_rng(seed)
    columns = [random.uniform(*limits, rows).round(1) for limits in RANGES]
    made = pd.DataFrame(dict(zip(FEATURES, columns, strict=True)))
    return made.assign(target=random.integers(0, 3, rows))


if __name__ == "__main__":
    main(__doc__, {"--rows": 1_000_000}, cases)
