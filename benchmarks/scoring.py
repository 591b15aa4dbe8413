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
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from mlops_for_mle import database, embedded_postgres
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.records import Batch
from mlops_for_mle.scoring.stop_signal import StopSignal
from mlops_for_mle.scoring.workers import WorkerProcesses
from tests.integration.scoring import Stage, connect
from tests.integration.servers import query, reachable_folder
from tests.releases import IRIS_CONTRACT, iris_release

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
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = reachable_folder("scoring-benchmark-")
    try:
        url = embedded_postgres.acquire(folder / "postgres", databases=("mlops",)).url("mlops")
        os.environ["DATABASE_URL"] = url
        stage = Stage(url, IRIS_CONTRACT, tempfile.mkdtemp(dir=folder))
        database.prepare(url, IRIS_CONTRACT)
        measure_ingestion(stage, "without the trigger", options.rows, options.rounds)
        stage.prepare()
        measure_ingestion(stage, "with the trigger   ", options.rows, options.rounds)
        query(url, "TRUNCATE iris_data, scoring_queue")
        stage.deploy(iris_release(1))
        for workers in (1, 2):
            for batch_size in (200, 500, 2000):
                measure_throughput(stage, workers, batch_size, options.rows)
        measure_latency(stage, options.inserts)
    finally:
        embedded_postgres.stop(folder / "postgres")
        shutil.rmtree(folder)


def measure_ingestion(stage: Stage, name: str, count: int, rounds: int) -> None:
    rows = pd.DataFrame(
        {**dict.fromkeys(IRIS_CONTRACT.feature_names, 1.5), "target": 0}, index=range(count)
    )
    empty = pd.DataFrame({"row_number": [], "reason": [], "row_data": []})
    engine = database.engine_for(stage.url)

    def copy(number: int) -> None:
        write_batch(engine, IRIS_CONTRACT, Batch(f"benchmark {name}", str(number), rows, empty))

    def single(_: int) -> None:
        with connect(stage.url) as connection, connection.cursor() as cursor:
            for _ in range(500):
                cursor.execute(ONE_ROW)
                connection.commit()

    copied = median_seconds(copy, rounds)
    inserted = median_seconds(single, rounds)
    print(
        f"ingestion {name}: COPY of {count} rows {count / copied:8.0f} rows/s, "
        f"single INSERTs {500 / inserted:6.0f} rows/s"
    )


def measure_throughput(stage: Stage, workers: int, batch_size: int, count: int) -> None:
    """Workers that are up already score rows as they come in, so that start-up does not count."""
    query(stage.url, "TRUNCATE iris_data, scoring_queue, iris_prediction")
    stopping = StopSignal()
    processes = WorkerProcesses(
        stage.plan(follow=True, batch_size=batch_size, report_seconds=60), workers, stopping
    )
    import threading

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
    with stage.following(report_seconds=60), connect(stage.url) as connection:
        with connection.cursor() as cursor:
            cursor.execute(NOTIFY)
            cursor.execute("LISTEN benchmark_scored")
            connection.commit()
            for _ in range(inserts):
                connection.notifies.clear()
                begin = time.perf_counter()
                cursor.execute(ONE_ROW)
                connection.commit()
                while not connection.notifies:
                    select.select([connection], [], [], 10)
                    connection.poll()
                found.append((time.perf_counter() - begin) * 1_000)
                time.sleep(0.01)
    found.sort()
    print(
        f"insert to score, {inserts} single rows: median {statistics.median(found):.1f} ms, "
        f"95 % below {found[int(len(found) * 0.95)]:.1f} ms, all below {found[-1]:.1f} ms"
    )


def median_seconds(way: Callable[[int], None], rounds: int) -> float:
    seconds = []
    for number in range(rounds):
        begin = time.perf_counter()
        way(number)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


if __name__ == "__main__":
    main()
