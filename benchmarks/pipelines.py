"""What a pipeline takes on many rows, next to another checkout: ingestion, monitoring or scoring.

Ingestion reads a Parquet file, validates its rows and writes them into the empty table. Monitoring
looks at one window of predictions, a fifth of them labelled: one prediction and one label come from
the API, the rest are their likes, made in SQL, so that they have whatever columns the tables of a
checkout have. Scoring goes from file to file: plain numbers, and text, dates and gaps.
"""

import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
from benchmarks.common import CACHE, PROJECT, Checkout, Run, checkouts, interleave, parser, ratio
from pyarrow.dataset import dataset

# By how much this checkout may be slower than another one: what the noise of machines comes to.
NOISE = 1.1
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
RANGES = ((4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5))
PREDICTION_COUNT = 5_000_000
PREDICTIONS = """
INSERT INTO predictions SELECT likeness.* FROM predictions AS one
CROSS JOIN generate_series(1, CAST(%(rows)s AS bigint) - 1) AS number
CROSS JOIN LATERAL jsonb_populate_record(one, jsonb_build_object(
    'prediction_id', CAST(lpad(to_hex(number), 32, '0') AS uuid),
    'created_at', one.created_at - number * interval '1 millisecond',
    'prediction', number %% 3,
    'features', jsonb_build_object(
        'sepal_length', round((4.8 + 2 * random())::numeric, 2),
        'sepal_width', round((2.6 + random())::numeric, 2),
        'petal_length', round((1.8 + 4 * random())::numeric, 2),
        'petal_width', round((0.2 + 2 * random())::numeric, 2)))) AS likeness
"""
LABELS = """
INSERT INTO feedback SELECT likeness.* FROM feedback AS one CROSS JOIN predictions
CROSS JOIN LATERAL jsonb_populate_record(one, jsonb_build_object(
    'prediction_id', predictions.prediction_id, 'target', predictions.prediction)) AS likeness
WHERE predictions.prediction_id <> one.prediction_id AND random() < 0.2
"""


class Case(NamedTuple):
    """What each checkout does once a round, with so many rows."""

    title: str
    rows: int
    measure: Callable[[Checkout], Run]


def ingestion(sides: list[Checkout]) -> list[Case]:
    for side in sides:
        side.deploy("iris")
    sizes = (150, 100_000, 1_000_000)
    return [Case(f"{rows:,} rows", rows, partial(ingest, rows)) for rows in sizes]


def ingest(rows: int, side: Checkout) -> Run:
    """The rows are new, as what the ledger knows is left out."""
    file = CACHE / "iris.parquet"
    iris_rows(rows, seed=time.time_ns()).to_parquet(file)
    side.sql("TRUNCATE iris_data")
    parameters = f"source=parquet,parquet_path={file}"
    run = side.kedro("run", "--pipeline", "data_ingestion", "--params", parameters)
    assert side.sql("SELECT count(*) FROM iris_data") == rows
    return run


def monitoring(sides: list[Checkout]) -> list[Case]:
    for side in sides:
        side.deploy("iris")
        if side.sql("SELECT count(*) FROM predictions") != PREDICTION_COUNT:
            fill(side)
    sizes = (1_000, PREDICTION_COUNT)
    return [Case(f"{rows:,} predictions", rows, partial(monitor, rows)) for rows in sizes]


def fill(side: Checkout) -> None:
    print(f"{side.name}: making {PREDICTION_COUNT:,} predictions …", flush=True)
    side.sql("TRUNCATE predictions, feedback CASCADE")
    with side.serve("iris") as server:
        row = dict.fromkeys(FEATURES, 3.0)
        prediction_id = server.wait_until_answering("/predict", row)["prediction_id"]
        side.wait_for_rows("predictions", 1)
        server.ask("/feedback", {"prediction_id": prediction_id, "label": 0})
        side.wait_for_rows("feedback", 1)
    side.sql(PREDICTIONS, rows=PREDICTION_COUNT)
    side.sql(LABELS)
    side.sql("VACUUM ANALYZE predictions, feedback")


def monitor(rows: int, side: Checkout) -> Run:
    """The newest rows as one window."""
    parameters = f"monitoring.window.rows={rows}"
    run = side.kedro("run", "--pipeline", "monitoring", "--params", parameters)
    newest = "SELECT prediction_count FROM monitoring_runs ORDER BY id DESC LIMIT 1"
    assert side.sql(newest) == rows
    return run


def scoring(sides: list[Checkout]) -> list[Case]:
    tables = (
        ("iris", iris_rows(1_000, seed=1)),
        ("iris", iris_rows(2_000_000, seed=2)),
        ("subscriptions", mixed_rows(200_000)),
    )
    cases = []
    for env, rows in tables:
        for side in sides:
            side.deploy(env)
        file = CACHE / f"{env}-{len(rows)}.parquet"
        rows.to_parquet(file)
        cases.append(Case(f"{len(rows):,} of {env}", len(rows), partial(score, env, file)))
    return cases


def score(env: str, source: Path, side: Checkout) -> Run:
    """A file to `scored/rows.parquet` in the side's folder."""
    scored = side.folder / "scored/rows.parquet"
    shutil.rmtree(scored.parent, ignore_errors=True)
    parameters = f"scoring.source={source},scoring.output={scored}"
    run = side.kedro("run", "--env", env, "--pipeline", "scoring", "--params", parameters)
    assert dataset(scored).count_rows() == dataset(source).count_rows()
    return run


def iris_rows(rows: int, seed: int) -> pd.DataFrame:
    """Rows in the ranges of iris, with one decimal like it."""
    random = np.random.default_rng(seed)
    columns = [random.uniform(*limits, rows).round(1) for limits in RANGES]
    made = pd.DataFrame(dict(zip(FEATURES, columns, strict=True)))
    return made.assign(target=random.integers(0, 3, rows))


def mixed_rows(rows: int) -> pd.DataFrame:
    """Subscribers drawn from the example's, with the types that a Parquet file has."""
    file = PROJECT / "data/01_raw/subscriptions.csv"
    known = pd.read_csv(file, parse_dates=["가입일", "마지막 접속"], dtype={"나이": "Int64"})
    drawn = known.sample(rows, replace=True, random_state=7, ignore_index=True)
    return drawn.assign(가입일=drawn["가입일"].dt.date)


PIPELINES = {one.__name__: one for one in (ingestion, monitoring, scoring)}


def main() -> int:
    command = parser(__doc__)
    command.add_argument("pipeline", choices=PIPELINES)
    command.add_argument("--against", type=Path, help="another checkout with its own .venv")
    options = command.parse_args()
    with checkouts(options.against) as sides:
        # The first is the start that the others have in common.
        cases = PIPELINES[options.pipeline](sides)
        pairs = product(cases, sides)
        ways = {(one.title, side.name): partial(one.measure, side) for one, side in pairs}
        runs = interleave(options.rounds, ways, lambda run: f"{run.seconds:.2f} s")
    fits = True
    for title, rows, _ in cases:
        for side in sides:
            found, starts = runs[title, side.name], runs[cases[0].title, side.name]
            seconds, processor = (
                median(getattr(run, what) for run in found) for what in Run._fields[:2]
            )
            beyond = seconds - median(run.seconds for run in starts)
            rate = f"{rows / beyond:14,.0f} rows/s" if beyond > 0 else ""
            print(f"{title:<26}{side.name:<6}{seconds:8.2f} s  {processor:8.2f} s used{rate}")
        if options.against:
            this, other = (runs[title, side.name] for side in sides)
            times, used = (ratio(this, other, what) for what in Run._fields[:2])
            print(f"{title:<26}this : other {times:.2f} in time, {used:.2f} in processor time")
            fits = fits and times <= NOISE
    print(f"Medians of {options.rounds} interleaved rounds; rows/s in the time beyond the start.")
    return int(options.check and not fits)


if __name__ == "__main__":
    sys.exit(main())
