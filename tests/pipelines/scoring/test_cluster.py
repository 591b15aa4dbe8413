"""Batches on a Dask cluster, of which a worker is killed: every row once, in little memory."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import psutil
import pyarrow as pa
import pytest
from distributed import SubprocessCluster
from pyarrow import parquet
from sqlalchemy.exc import ProgrammingError

from tests.pipelines.scoring.stage import FEATURES, INSERT
from tests.servers import eventually, query, scalar

# MLOPS_TEST_BATCH_ROWS=2000000 is the long form.
ROWS = int(os.environ.get("MLOPS_TEST_BATCH_ROWS", "80000"))
PARTS = 40
MEBIBYTES = 600


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, list[psutil.Process]]]:
    """The address of a scheduler, and three workers, of which each test kills one."""
    options = {"worker_class": "distributed.Worker", "dashboard_address": None}
    with SubprocessCluster(n_workers=3, threads_per_worker=1, **options) as found:
        workers = [psutil.Process(one.process.pid) for one in found.workers.values()]
        yield found.scheduler_address, workers


@pytest.mark.parametrize("place", ["table", "file"])
def test_a_killed_worker_loses_and_doubles_nothing(cluster, stage, tmp_path, place, monkeypatch):
    # Where workers stand, and the tests, is another folder.
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(tmp_path))
    if place == "file":
        output, source = "out.parquet", "rows.parquet"
        rows = np.random.default_rng(1).uniform(0.5, 7, (ROWS, 4))
        rows[::1000, 0] = -1
        table = pa.table({name: rows[:, number] for number, name in enumerate(FEATURES)})
        parquet.write_table(table, tmp_path / source, row_group_size=ROWS // PARTS)
    else:
        output, source = "scores", "iris_data"
        query(stage.url, INSERT, count=ROWS)
        query(stage.url, "UPDATE iris_data SET sepal_length = -1 WHERE id % 1000 = 1")
    (address, workers), peak = cluster, 0
    stages = "SELECT relname FROM pg_class WHERE relname LIKE 'scoring\\_stage\\_%'"

    def measure() -> None:
        nonlocal peak
        peak = max(peak, *(one.memory_info().rss >> 20 for one in workers))

    def attempts() -> int:
        """How many parts are staged."""
        measure()
        counts = [0]
        # It may be gone when it is counted.
        with suppress(ProgrammingError):
            for (one,) in query(stage.url, stages):
                counts.append(scalar(stage.url, f"SELECT count(*) FROM {one}"))
        return max(counts) * PARTS // ROWS + len([*tmp_path.glob("out.parquet/_part*")])

    engine = {"scheduler": address}

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            stage.batch, source=source, output=output, chunk_rows=ROWS // PARTS, engine=engine
        )
        assert eventually(lambda: running.done() or attempts())
        killed = workers.pop()
        # Whatever it is about to do is not done before it is killed, and somebody else does it.
        killed.suspend()
        assert eventually(lambda: running.done() or attempts() >= PARTS // 4, 300)
        assert not running.done()
        killed.kill()
        killed.wait()
        assert eventually(lambda: measure() or running.done(), 600)
        found = running.result()

    rejected = list(range(1, ROWS + 1, 1000))
    assert found.row_number.tolist() == sorted(set(range(1, ROWS + 1)) - set(rejected))
    if place == "table":
        assert query(stage.url, "SELECT count(*) FROM scores_rejects") == [(len(rejected),)]
    else:
        refused = parquet.read_table(tmp_path / "out_rejects.parquet")
        assert refused["row_number"].to_pylist() == rejected
    assert 0 < peak < MEBIBYTES
