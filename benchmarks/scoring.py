"""Batch scoring of Parquet files into files: rows of plain numbers, and of text, dates and gaps."""

import shutil
from argparse import Namespace
from functools import partial
from pathlib import Path

import pandas as pd
from benchmarks.common import CACHE, PROJECT, Case, Checkout, Run, main
from benchmarks.ingestion import iris_rows
from pyarrow.dataset import dataset


def cases(sides: list[Checkout], options: Namespace) -> list[Case]:
    for side in sides:
        side.deploy("iris")
        side.deploy("subscriptions")
    return [
        _case("iris", iris_rows(1_000, seed=1)),
        _case("iris", iris_rows(options.rows, seed=2)),
        _case("subscriptions", mixed_rows(options.mixed_rows)),
    ]


def _case(env: str, rows: pd.DataFrame) -> Case:
    file = CACHE / f"{env}-{len(rows)}.parquet"
    rows.to_parquet(file)
    return Case(f"{len(rows):,} of {env}", len(rows), partial(score, env, file))


def score(env: str, source: Path, side: Checkout) -> Run:
    """A file to `scored/rows.parquet` in the side's folder."""
    scored = side.folder / "scored/rows.parquet"
    shutil.rmtree(scored.parent, ignore_errors=True)
    parameters = f"scoring.source={source},scoring.output={scored}"
    run = side.kedro("run", "--env", env, "--pipeline", "scoring", "--params", parameters)
    assert dataset(scored).count_rows() == dataset(source).count_rows()
    return run


def mixed_rows(rows: int) -> pd.DataFrame:
    """Subscribers drawn from the example's, with the types that a Parquet file has."""
    file = PROJECT / "data/01_raw/subscriptions.csv"
    known = pd.read_csv(file, parse_dates=["가입일", "마지막 접속"], dtype={"나이": "Int64"})
    drawn = known.sample(rows, replace=True, random_state=7, ignore_index=True)
    return drawn.assign(가입일=drawn["가입일"].dt.date)


if __name__ == "__main__":
    main(__doc__, {"--rows": 2_000_000, "--mixed-rows": 200_000}, cases)
