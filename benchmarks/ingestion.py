"""COPY in one transaction against pandas' `to_sql`, on the same rows and the same server.

    python benchmarks/ingestion.py [--rows 200000] [--rounds 3]

The ways are interleaved round by round, so that a noisy machine disturbs them alike; the ratios
of the medians are what counts.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import text

from mlops_for_mle import database
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import embedded
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.records import Batch

CONTRACT = Contract.model_validate(
    {
        "name": "benchmark",
        "table": "benchmark_rows",
        "features": {f"feature_{index}": {"type": "float"} for index in range(4)},
        "target": {
            "column": "target",
            "response_name": "answer",
            "classes": [{"value": 0, "label": "no"}, {"value": 1, "label": "yes"}],
        },
    }
)


def make_rows(count: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(generator.normal(size=(count, 4)), columns=list(CONTRACT.feature_names))
    return rows.assign(target=generator.integers(0, 2, count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = make_rows(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        url = embedded.acquire(Path(folder) / "postgres").url("mlops")
        database.prepare(url, CONTRACT)
        measure(url, rows, options.rounds)
        embedded.stop(Path(folder) / "postgres")


def measure(url: str, rows: pd.DataFrame, rounds: int) -> None:
    engine = database.engine_for(url)
    stamped = rows.assign(timestamp=pd.Timestamp("2026-01-01"))

    def copy(number: int) -> None:
        empty = pd.DataFrame({"row_number": [], "reason": [], "row_data": []})
        write_batch(engine, CONTRACT, Batch("benchmark", str(number), rows, empty))

    def to_sql(_: int) -> None:
        stamped.to_sql(CONTRACT.table, engine, if_exists="append", index=False)

    ways = {"COPY, one transaction": copy, "pandas to_sql": to_sql}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            with engine.begin() as connection:
                connection.execute(text(f"TRUNCATE {CONTRACT.table}"))
            begin = time.perf_counter()
            way(number)
            seconds[name].append(time.perf_counter() - begin)
    base = statistics.median(seconds["COPY, one transaction"])
    print(f"{len(rows)} rows of {rows.shape[1]} columns, median of {rounds} rounds")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:<22} {median:7.2f} s   {median / base:5.1f} x")


if __name__ == "__main__":
    main()
