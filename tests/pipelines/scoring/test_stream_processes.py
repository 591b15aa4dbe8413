"""Scorers of the table that are killed, and servers that crash: each row is scored exactly once."""

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

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from tests.pipelines.scoring.stage import Stage, staged
from tests.releases import iris_release
from tests.servers import ExternalPostgres, eventually, query, scalar

pytestmark = pytest.mark.integration

ROWS = int(os.environ.get("MLOPS_TEST_ROWS", "3000"))

# What `kedro score --follow` does, without the time that Kedro takes to start.
FOLLOW = """
import logging, sys
from mlops_for_mle.commands.project import until_stopped
from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.scoring.following import Follower
from mlops_for_mle.pipelines.scoring.stream import RowQueue
stopping = until_stopped()
logging.basicConfig(level="INFO", format="%(message)s")
contract = Contract.model_validate_json(sys.argv[1])
queue = RowQueue(contract, int(sys.argv[3]))
follower = Follower(contract, sys.argv[2], queue)
follower.run(stopping, follow=True)
print(f"scored {follower.scored}")
"""


@pytest.fixture
def stage(
    database_url: str, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """A deployed release and an audit of every write to the predictions."""
    return audited(database_url, contract, tmp_path, monkeypatch)


def audited(url: str, contract: Contract, folder: Path, patch: pytest.MonkeyPatch) -> Stage:
    stage = staged(url, contract, folder / "releases", patch, iris_release(1))
    stage.prepare()
    stage.audit()
    return stage


class Follower:
    """One process that follows."""

    def __init__(self, stage: Stage, size: int = 20) -> None:
        contract = stage.contract.model_dump_json()
        self.process = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, contract, stage.store, str(size)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

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
def inserting(stage: Stage, count: int) -> Iterator[None]:
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
    yield
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


def test_processes_that_are_killed_at_random_moments_score_each_row_once(stage: Stage) -> None:
    chance = random.Random(7)
    followers = [Follower(stage, size=50) for _ in range(2)]
    kills, seen = 0, 0
    try:
        with inserting(stage, ROWS):
            while kills < max(4, ROWS // 1000) and stage.scored() < ROWS:
                # One that was just started must not be killed before it has done anything.
                assert eventually(lambda seen=seen: stage.scored() > seen, seconds=60)
                time.sleep(chance.uniform(0.0, 0.3))
                number = chance.randrange(len(followers))
                followers[number].kill()
                followers[number] = Follower(stage, size=50)
                kills += 1
                seen = stage.scored()
        assert eventually(lambda: stage.scored() >= ROWS, seconds=240)
    finally:
        for follower in followers:
            follower.kill()

    assert kills >= 3
    assert_each_row_was_scored_once(stage, ROWS)


def test_crashes_of_the_server_lose_and_double_nothing(
    external_server: ExternalPostgres,
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = external_server.create_database()
    stage = audited(url, contract, tmp_path, monkeypatch)
    follower = Follower(stage)
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
        time.sleep(0.5)
        said = follower.stop()
    finally:
        external_server.start()

    assert "tried again in" in said
    engine_for(url).dispose()
    assert_each_row_was_scored_once(stage, 800)
    engine_for(url).dispose()
    external_server.drop_database(url)
