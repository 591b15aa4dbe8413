"""Worker processes that are killed, and servers that crash: each row is scored exactly once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlops_for_mle.scoring.plan import ScoringPlan
from mlops_for_mle.scoring.workers import WorkerProcesses

from mlops_for_mle.contract import Contract
from mlops_for_mle.database import engine_for
from mlops_for_mle.stop_signal import StopSignal
from tests.integration.servers import ExternalPostgres, eventually, query, scalar
from tests.new_releases import iris_release
from tests.pipelines.scoring.stage import Stage

pytestmark = pytest.mark.integration

ROWS = int(os.environ.get("MLOPS_TEST_ROWS", "3000"))


@pytest.fixture
def stage(
    database_url: str, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """A deployed release and an audit of every write to the predictions."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return ready(database_url, contract, tmp_path)


def ready(url: str, contract: Contract, folder: Path) -> Stage:
    stage = Stage(url, contract, str(folder / "releases"))
    stage.prepare()
    stage.audit()
    stage.deploy(iris_release(1))
    return stage


class Worker:
    """One worker process, as the supervisor starts it."""

    def __init__(self, plan: ScoringPlan) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlops_for_mle.scoring", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(plan.model_dump_json() + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it and give what it has said; it must have ended well."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        assert "Traceback" not in errors, errors
        return f"{output}\n{errors}"


@contextmanager
def inserting(stage: Stage, count: int) -> Iterator[threading.Thread]:
    """Insert rows in the background, in statements of different sizes."""

    def insert() -> None:
        left = count
        while left:
            some = min(left, random.Random(left).randint(1, max(2, count // 40)))
            stage.insert(some)
            left -= some
            time.sleep(0.01)

    thread = threading.Thread(target=insert)
    thread.start()
    yield thread
    thread.join()


def assert_each_row_was_scored_once(stage: Stage, count: int) -> None:
    assert scalar(stage.url, "SELECT count(*) FROM iris_data") == count
    assert stage.unscored() == 0
    assert stage.scored() == count
    assert stage.waiting() == 0
    writes = "SELECT count(*), count(DISTINCT source_id), min(operation), max(operation)"
    assert query(stage.url, f"{writes} FROM prediction_writes") == [
        (count, count, "INSERT", "INSERT")
    ]


def test_workers_that_are_killed_at_random_moments_score_each_row_once(stage: Stage) -> None:
    chance = random.Random(7)
    plan = stage.plan(follow=True, batch_size=50, poll_seconds=0.2)
    workers = [Worker(plan) for _ in range(2)]
    kills, seen = 0, 0
    with inserting(stage, ROWS):
        while kills < max(6, ROWS // 1000) and stage.scored() < ROWS:
            # A worker that was just started must not be killed before it has done anything.
            assert eventually(lambda seen=seen: stage.scored() > seen, seconds=60)
            time.sleep(chance.uniform(0.0, 0.3))
            number = chance.randrange(len(workers))
            workers[number].kill()
            workers[number] = Worker(plan)
            kills += 1
            seen = stage.scored()
        assert eventually(lambda: stage.scored() >= ROWS, seconds=240)
    for worker in workers:
        # The last one may not even have got to its handlers of signals.
        worker.kill()

    assert kills >= 3
    assert_each_row_was_scored_once(stage, ROWS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_worker_after_its_batch(stage: Stage, number: signal.Signals) -> None:
    worker = Worker(stage.plan(follow=True, batch_size=20))
    stage.insert(10)
    assert eventually(lambda: stage.scored() == 10, seconds=60)
    stage.insert(2_000)
    said = worker.stop(number)

    count = stage.scored()
    assert f'"scored": {count}' in said
    assert stage.waiting() == 2_010 - count
    assert scalar(stage.url, "SELECT count(*) FROM prediction_writes") == count


def test_a_worker_ends_when_the_process_that_started_it_is_gone(stage: Stage) -> None:
    worker = Worker(stage.plan(follow=True))
    stage.insert(1)
    assert eventually(lambda: stage.scored() == 1, seconds=60)
    process = worker.process
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    for stream in (process.stdout, process.stdin):
        stream.close()
    assert process.wait(30) == 0
    said = process.stderr.read()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_several_workers_share_the_rows_and_end_when_none_is_left(stage: Stage) -> None:
    stage.insert(600)

    totals = WorkerProcesses(stage.plan(batch_size=20), 2, StopSignal()).run()

    assert (totals.scored, totals.rejected) == (600, 0)
    assert_each_row_was_scored_once(stage, 600)


def test_a_worker_that_is_killed_is_started_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = StopSignal()
    processes = WorkerProcesses(stage.plan(follow=True), 2, stopping)
    thread = threading.Thread(target=processes.run)
    thread.start()
    try:
        stage.insert(1)
        assert eventually(lambda: stage.scored() == 1, seconds=60)
        for pid in processes.process_ids():
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: caplog.text.count("was ended by SIGKILL") == 2)
        stage.insert(1)
        assert eventually(lambda: stage.scored() == 2, seconds=60)
    finally:
        stopping.set()
        thread.join(40)
    assert not thread.is_alive()
    assert processes.process_ids() == []


def test_crashes_of_the_server_lose_and_double_nothing(
    external_server: ExternalPostgres,
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = external_server.create_database()
    monkeypatch.setenv("DATABASE_URL", url)
    stage = ready(url, contract, tmp_path)
    worker = Worker(stage.plan(follow=True, batch_size=20))
    stage.insert(200)
    assert eventually(lambda: stage.scored() > 0, seconds=60)
    for _ in range(2):
        stage.insert(300)
        external_server.stop("immediate")
        external_server.start()
        engine_for(url).dispose()
    assert eventually(lambda: stage.scored() >= 800, seconds=60)
    external_server.stop("immediate")
    try:
        said = worker.stop()
    finally:
        external_server.start()

    assert "scoring is interrupted: the database does not answer" in said
    engine_for(url).dispose()
    assert_each_row_was_scored_once(stage, 800)
    engine_for(url).dispose()
    external_server.drop_database(url)
