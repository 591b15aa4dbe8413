"""Scorers that are killed, and servers that crash: each row and message is scored exactly once."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.scoring.following import install
from tests.pipelines.scoring.kafka_broker import bare, wrapped
from tests.pipelines.scoring.stage import AUDIT, LISTENING, Stage, TopicStage, start_process
from tests.servers import eventually, query, scalar

# The long forms: MLOPS_TEST_ROWS=50000, and
# MLOPS_TEST_MESSAGES=200000 MLOPS_TEST_KILL_EVERY=5 MLOPS_TEST_KILLS=12.
ROWS = int(os.environ.get("MLOPS_TEST_ROWS", "3000"))
MESSAGES = int(os.environ.get("MLOPS_TEST_MESSAGES", "3000"))
KILL_EVERY = float(os.environ.get("MLOPS_TEST_KILL_EVERY", "2"))
KILLS = int(os.environ.get("MLOPS_TEST_KILLS", "2"))
BAD_EVERY = min(1_000, MESSAGES // 20)
CHUNK = MESSAGES // 100


@contextmanager
def members(
    stage: Stage | TopicStage, folder: Path, count: int, size: int = 50
) -> Iterator[tuple[Callable[[int], None], Path]]:
    """Processes that follow until the block is left; gives what replaces one, and their log.

    They are told to stop once they listen to that, and none has said a traceback or failed.
    """
    log = folder / "members.log"
    start = partial(start_process, stage.follower(size), log)
    running = [start() for _ in range(count)]

    def restart(number: int) -> None:
        running[number].kill()
        running[number].join()
        running[number] = start()

    try:
        yield restart, log
        listening = [LISTENING.format(one.pid) for one in running]
        assert eventually(lambda: all(one in log.read_text() for one in listening))
        for one in running:
            one.terminate()
        for one in running:
            one.join(90)
            assert one.exitcode == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        for one in running:
            one.kill()


def assert_each_row_was_scored_once(stage: Stage, count: int) -> None:
    assert scalar(stage.url, "SELECT count(*) FROM iris_data") == count
    assert (stage.scored(), stage.waiting()) == (count, 0)
    writes = "SELECT count(*), count(DISTINCT source_id), min(operation), max(operation)"
    found = query(stage.url, f"{writes} FROM prediction_writes")
    assert found == [(count, count, "INSERT", "INSERT")]


def test_processes_that_are_killed_at_random_moments_score_each_row_once(stage, tmp_path):
    install(stage.contract)
    query(stage.url, AUDIT)
    chance, sizes = random.Random(7), random.Random(8)
    all_are_killed = threading.Event()
    inserted = 0

    def insert() -> None:
        nonlocal inserted
        while inserted < ROWS or not all_are_killed.is_set():
            if stage.waiting() < 500:
                some = sizes.randint(1, 75)
                stage.insert(some)
                inserted += some
            time.sleep(0.01)

    with members(stage, tmp_path, count=2) as (restart, _):
        with ThreadPoolExecutor(1) as pool:
            inserting = pool.submit(insert)
            try:
                for _ in range(max(3, ROWS // 1000)):
                    seen = stage.scored()
                    # One that was just started must not be killed before it has done anything.
                    assert eventually(lambda seen=seen: stage.scored() > seen)
                    time.sleep(chance.uniform(0.0, 0.3))
                    restart(chance.randrange(2))
            finally:
                all_are_killed.set()
        inserting.result()
        assert eventually(lambda: stage.scored() >= inserted, max(240, ROWS / 50))

    assert_each_row_was_scored_once(stage, inserted)


def test_crashes_of_the_server_lose_and_double_nothing(fragile, external_server, tmp_path):
    install(fragile.contract)
    query(fragile.url, AUDIT)
    with members(fragile, tmp_path, count=1) as (_, log):
        fragile.insert(200)
        assert eventually(lambda: fragile.scored() > 0)
        for _ in range(2):
            fragile.insert(300)
            external_server.stop("immediate")
            external_server.start()
            engine_for(fragile.url).dispose()
        assert eventually(lambda: fragile.scored() >= 800)
        external_server.stop("immediate")
        assert eventually(lambda: "tried again in" in log.read_text())
    external_server.start()
    engine_for(fragile.url).dispose()
    assert_each_row_was_scored_once(fragile, 800)


def is_bad(number: int) -> bool:
    return number % BAD_EVERY == 37


def message(number: int) -> bytes:
    """Some are malformed, half of the others come in Kafka Connect's envelope."""
    if is_bad(number):
        return (b"{", b"null", bare(number, sepal_length="five"))[number // BAD_EVERY % 3]
    return bare(number) if number % 2 else wrapped(number)


def test_members_that_are_killed_and_replaced_score_each_good_message_once(
    fragile, broker, external_server, tmp_path
):
    topic = TopicStage(broker, fragile, broker.make_topic(6))
    good: list[tuple[str, int]] = []
    bad: list[tuple[str, int]] = []

    def send() -> None:
        for first in range(0, MESSAGES, CHUNK):
            numbers = range(first, min(first + CHUNK, MESSAGES))
            sent = broker.send(topic.topic, map(message, numbers))
            for number, place in zip(numbers, sent, strict=True):
                (bad if is_bad(number) else good).append(place)
            time.sleep(KILL_EVERY * KILLS / 100)

    def all_are_written() -> bool:
        return len(topic.scored_messages()) + len(topic.rejects()) >= MESSAGES

    with members(topic, tmp_path, count=3, size=500) as (restart, log):
        assert eventually(lambda: "partitions=" in log.read_text())
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            for kill in range(KILLS):
                time.sleep(KILL_EVERY)
                restart(kill % 3)
                if kill == KILLS // 2:
                    external_server.stop("immediate")
                    time.sleep(1)
                    external_server.start()
        sending.result()
        assert eventually(all_are_written, 180)
        assert eventually(
            lambda: sum(broker.committed(topic.topic, topic.group).values()) == MESSAGES
        )

    assert len(good) + len(bad) == MESSAGES
    assert topic.scored_messages() == sorted(good)
    assert sorted(topic.rejects()) == sorted(bad)
