"""Monitoring over millions of predictions: time by number of rows, and the process's memory.

    python benchmarks/monitoring.py [--rows 500000 1000000 2500000 5000000] [--labelled 0.2]

Everything runs on an embedded server in a folder of its own; each size is looked at by a process of
its own, so that its peak memory is that of this size. The rows are made in SQL. Time should grow in
proportion to the rows, and memory not at all.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import text
from tests.integration.servers import reachable_folder
from tests.new_releases import IRIS_CONTRACT, iris_release
from tests.pipelines.monitoring.steps import look
from tests.pipelines.monitoring.traffic import iris_source

from mlops_for_mle import embedded_postgres
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import prepare

FILL = """
INSERT INTO predictions (prediction_id, contract, release, model_version, created_at, latency_ms,
                         prediction, label, features, probabilities)
SELECT lpad(to_hex(number), 32, '0'), 'iris', :release, 1,
       timestamptz '2026-01-01' + number * interval '1 millisecond', 0.5, number % 3, 'any',
       jsonb_build_object('sepal_length', round((5.8 + 2 * random() - 1)::numeric, 2),
                          'sepal_width', round((3.1 + random() - 0.5)::numeric, 2),
                          'petal_length', round((3.8 + 4 * random() - 2)::numeric, 2),
                          'petal_width', round((1.2 + 2 * random() - 1)::numeric, 2)),
       ARRAY[0.1, 0.2, 0.7]
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS number
"""

LABEL = """
INSERT INTO feedback (prediction_id, revision, contract, target)
SELECT prediction_id, 1, contract, prediction FROM predictions
WHERE prediction_id > lpad(to_hex(CAST(:first AS bigint) - 1), 32, '0') AND random() < :labelled
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [500_000, 1_000_000, 2_500_000, 5_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes)
    parser.add_argument("--labelled", type=float, default=0.2)
    parser.add_argument("--look-at", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look_at:
        print(json.dumps(measure(options.look_at)))
        return
    folder = reachable_folder("monitoring-benchmark-")
    try:
        url = embedded_postgres.acquire(folder / "postgres", databases=("mlops",)).url("mlops")
        prepare(url, IRIS_CONTRACT)
        compare_sizes(url, sorted(options.rows), options.labelled)
    finally:
        embedded_postgres.stop(folder / "postgres")
        shutil.rmtree(folder)


def compare_sizes(url: str, sizes: list[int], labelled: float) -> None:
    heads = (("rows", 10), ("labels", 10), ("seconds", 8), ("s/million", 10), ("peak MB", 8))
    print(*(f"{name:>{width}}" for name, width in heads), f"{'grown MB':>9}")
    present = 0
    for size in sizes:
        fill(url, present + 1, size, labelled)
        present = size
        command = [sys.executable, __file__, "--look-at", url]
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(finished.stdout)
        assert found["rows"] == size
        print(
            f"{size:>10,} {found['labels']:>10,} {found['seconds']:>8.1f} "
            f"{found['seconds'] / size * 1e6:>10.1f} {found['peak']:>8.0f} {found['grown']:>9.1f}",
            flush=True,
        )


def fill(url: str, first: int, last: int, labelled: float) -> None:
    engine = engine_for(url)
    release = iris_release(1).manifest.release
    with engine.begin() as connection:
        connection.execute(text(FILL), {"first": first, "last": last, "release": release})
        connection.execute(text(LABEL), {"first": first, "labelled": labelled})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE predictions, feedback"))


def measure(url: str) -> dict[str, float]:
    """Look at everything in this process; the first look warms up imports on a small window."""
    release, snapshot = iris_release(1), iris_source()
    look(url, release, snapshot)
    before = peak_megabytes()
    started = time.perf_counter()
    seen = look(url, release, snapshot, window={"rows": None})
    seconds = time.perf_counter() - started
    return {
        "rows": seen.run.prediction_count,
        "labels": seen.run.labelled_count,
        "seconds": seconds,
        "peak": peak_megabytes(),
        "grown": peak_megabytes() - before,
    }


def peak_megabytes() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
