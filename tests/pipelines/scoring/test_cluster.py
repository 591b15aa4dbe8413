"""Batches on a Dask cluster, of which a worker is killed: every row once, in little memory."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import psutil
import pytest
from distributed import SubprocessCluster

from tests.pipelines.scoring.stage import INSERT, rows_with_gaps
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
        rows_with_gaps(ROWS).to_parquet(tmp_path / source, row_group_size=ROWS // PARTS)
    else:
        output, source = "scores", "iris_data"
        query(stage.url, INSERT, count=ROWS)
        query(stage.url, "UPDATE iris_data SET sepal_length = -1 WHERE id % 10 = 1")
    (address, workers), peak = cluster, 0
    size = "SELECT coalesce(sum(pg_relation_size(oid)), 0) FROM pg_class WHERE relname ~ '^{}'"

    def measure() -> None:
        nonlocal peak
        peak = max(peak, *(one.memory_info().rss >> 20 for one in workers))

    def staged() -> int:
        """Grows with the parts that are written, whether bytes of a table or files."""
        measure()
        files = len([*tmp_path.glob("out.parquet/_part*")])
        return files or int(scalar(stage.url, size.format("scoring_stage_")))

    engine = {"scheduler": address}

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            stage.batch, source=source, output=output, chunk_rows=ROWS // PARTS, engine=engine
        )
        assert eventually(lambda: running.done() or staged())
        begun = staged()
        killed = workers.pop()
        # Whatever it is about to do is not done before it is killed, and somebody else does it.
        killed.suspend()
        assert eventually(lambda: running.done() or staged() > 4 * begun, 300)
        assert not running.done()
        killed.kill()
        killed.wait()
        assert eventually(lambda: measure() or running.done(), 600)
        found = running.result()

    rejected = list(range(1, ROWS + 1, 10))
    assert found.row_number.tolist() == sorted(set(range(1, ROWS + 1)) - set(rejected))
    if place == "table":
        assert query(stage.url, "SELECT count(*) FROM scores_rejects") == [(len(rejected),)]
    else:
        refused = pd.read_parquet(tmp_path / "out_rejects.parquet")
        assert refused.row_number.tolist() == rejected
    assert 0 < peak < MEBIBYTES
