"""Stream scoring: rows a second by number of workers, insert-to-score latency, cost of the trigger.

    python benchmarks/scoring.py [--rows 20000] [--inserts 300]

Everything runs on an embedded server in a folder of its own. Latency is what a client sees: from
the moment before its INSERT to the notification that the prediction is committed.
"""

import argparse
import os
import select
import shutil
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
from tests.integration.scoring import Stage, connect
from tests.integration.servers import query, reachable_folder
from tests.releases import IRIS_CONTRACT, iris_release

from mlops_for_mle import database
from mlops_for_mle.database import embedded
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.records import Batch
from mlops_for_mle.scoring.workers import WorkerProcesses
from mlops_for_mle.stop_signal import StopSignal

NOTIFY = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NOTIFY benchmark_scored; RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON iris_prediction FOR EACH STATEMENT EXECUTE FUNCTION tell();
"""
ONE_ROW = (
    "INSERT INTO iris_data (timestamp, sepal_length, sepal_width, petal_length, petal_width, "
    "target) VALUES (now(), 5.1, 3.5, 1.4, 0.2, 0)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--inserts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    folder = reachable_folder("scoring-benchmark-")
    try:
        url = embedded.acquire(folder / "postgres", databases=("mlops",)).url("mlops")
        os.environ["DATABASE_URL"] = url
        stage = Stage(url, IRIS_CONTRACT, tempfile.mkdtemp(dir=folder))
        stage.prepare()
        measure_trigger(stage, options.rows, options.rounds)
        query(url, "TRUNCATE iris_data, scoring_queue")
        stage.deploy(iris_release(1))
        for _ in range(options.repeats):
            for workers in (1, 2):
                for batch_size in (200, 500, 2000):
                    measure_throughput(stage, workers, batch_size, options.rows)
        measure_latency(stage, options.inserts)
    finally:
        embedded.stop(folder / "postgres")
        shutil.rmtree(folder)


def measure_trigger(stage: Stage, count: int, rounds: int) -> None:
    """The same ingestion with and without the trigger, round by round."""
    rows = pd.DataFrame(
        {**dict.fromkeys(IRIS_CONTRACT.feature_names, 1.5), "target": 0}, index=range(count)
    )
    empty = pd.DataFrame({"row_number": [], "reason": [], "row_data": []})
    engine = database.engine_for(stage.url)

    def copy() -> None:
        write_batch(engine, IRIS_CONTRACT, Batch("benchmark", uuid.uuid4().hex, rows, empty))

    def insert() -> None:
        with connect(stage.url) as connection, connection.cursor() as cursor:
            for _ in range(200):
                cursor.execute(ONE_ROW)
                connection.commit()

    ways: dict[str, tuple[Callable[[], None], int]] = {
        f"COPY of {count} rows": (copy, count),
        "single INSERTs": (insert, 200),
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for state in ("DISABLE", "ENABLE"):
            query(stage.url, f"ALTER TABLE iris_data {state} TRIGGER scoring_iris")
            query(stage.url, "TRUNCATE iris_data, scoring_queue")
            for name, (way, _) in ways.items():
                begin = time.perf_counter()
                way()
                seconds.setdefault((name, state), []).append(time.perf_counter() - begin)
    for name, (_, done) in ways.items():
        without, with_ = (min(seconds[name, state]) for state in ("DISABLE", "ENABLE"))
        print(
            f"{name}: {done / without:8.0f} rows/s without the trigger, "
            f"{done / with_:8.0f} with it ({with_ / without:.2f} x; best of {rounds} rounds)"
        )


def measure_throughput(stage: Stage, workers: int, batch_size: int, count: int) -> None:
    """Workers that are up already score rows as they come in, so that start-up does not count."""
    query(stage.url, "TRUNCATE iris_data, scoring_queue, iris_prediction")
    stopping = StopSignal()
    processes = WorkerProcesses(
        stage.plan(follow=True, batch_size=batch_size, report_seconds=60), workers, stopping
    )
    thread = threading.Thread(target=processes.run)
    thread.start()
    stage.insert(workers)
    wait_for(lambda: stage.scored() >= workers)
    time.sleep(2)
    query(stage.url, "TRUNCATE iris_prediction")
    stage.insert(count)
    wait_for(lambda: stage.scored() >= count)
    stopping.set()
    thread.join()
    ((seconds,),) = query(
        stage.url,
        "SELECT extract(epoch FROM max(scored_at) - min(scored_at))::float FROM iris_prediction",
    )
    print(f"{workers} worker(s), {batch_size} a batch: {count / seconds:8.0f} rows/s")


def measure_latency(stage: Stage, inserts: int) -> None:
    query(stage.url, "TRUNCATE iris_data, scoring_queue, iris_prediction")
    found: list[float] = []
    committed: list[float] = []
    with (
        stage.following(report_seconds=60),
        connect(stage.url) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(NOTIFY)
        cursor.execute("LISTEN benchmark_scored")
        connection.commit()
        for _ in range(inserts):
            connection.notifies.clear()
            begin = time.perf_counter()
            cursor.execute(ONE_ROW)
            connection.commit()
            committed.append((time.perf_counter() - begin) * 1_000)
            while not connection.notifies:
                select.select([connection], [], [], 10)
                connection.poll()
            found.append((time.perf_counter() - begin) * 1_000)
            time.sleep(0.01)
    for name, values in (("insert to commit", committed), ("insert to score ", found)):
        values.sort()
        print(
            f"{name}, {inserts} single rows: best {values[0]:.1f} ms, "
            f"median {statistics.median(values):.1f} ms, "
            f"95 % below {values[int(len(values) * 0.95)]:.1f} ms"
        )


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


if __name__ == "__main__":
    main()
