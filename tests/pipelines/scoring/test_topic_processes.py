"""Members of a consumer group that come, go and are killed while messages arrive."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlops_for_mle.scoring.preparation import prepare_scoring

from mlops_for_mle.contract import Contract
from tests.integration.servers import eventually
from tests.new_releases import iris_release
from tests.pipelines.scoring.kafka_broker import KafkaBroker, Sent, bare, dead_positions, wrapped
from tests.pipelines.scoring.stage import Stage
from tests.pipelines.scoring.topic_stage import TopicStage

pytestmark = pytest.mark.integration

COUNT = int(os.environ.get("MLOPS_TEST_ROWS", "2000"))
CHUNK = 100


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def topic(broker: KafkaBroker, database_url: str, contract: Contract, tmp_path: Path) -> TopicStage:
    prepare_scoring(database_url, contract)
    stage = Stage(database_url, contract, str(tmp_path / "releases"))
    stage.deploy(iris_release())
    return TopicStage(broker, stage, broker.make_topic(4))


def is_bad(number: int) -> bool:
    return number % 100 == 37


def message(number: int) -> bytes:
    """One in a hundred is malformed, half of the others come in Kafka Connect's envelope."""
    if is_bad(number):
        return (b"{", b"null", bare(number, sepal_length="five"))[number // 100 % 3]
    return bare(number) if number % 2 else wrapped(number)


class Traffic(threading.Thread):
    """Sends the messages little by little, while members come and go."""

    def __init__(self, topic: TopicStage) -> None:
        super().__init__()
        self._topic = topic
        self._may_go_on = threading.Semaphore(0)
        self.good: list[Sent] = []
        self.bad: list[Sent] = []

    def let(self, share: float) -> None:
        """Allow this share of the messages, in chunks."""
        for _ in range(round(share * COUNT / CHUNK)):
            self._may_go_on.release()

    def run(self) -> None:
        for first in range(0, COUNT, CHUNK):
            self._may_go_on.acquire(timeout=60)
            numbers = range(first, min(first + CHUNK, COUNT))
            sent = self._topic.broker.send(self._topic.topic, map(message, numbers))
            for number, place in zip(numbers, sent, strict=True):
                (self.bad if is_bad(number) else self.good).append(place)


def test_members_that_are_killed_and_replaced_score_each_good_message_once(
    topic: TopicStage, tmp_path: Path
) -> None:
    traffic = Traffic(topic)
    logs = [tmp_path / f"member-{number}.log" for number in range(3)]
    members = [topic.start_process(log, batch_size=50) for log in logs[:2]]
    traffic.start()
    try:
        traffic.let(0.3)
        assert eventually(lambda: topic.count() >= 0.2 * COUNT, 60), [
            log.read_text() for log in logs[:2]
        ]
        # In the middle of its work, since messages go on to arrive.
        traffic.let(0.3)
        members[0].kill()
        members.append(topic.start_process(logs[2], batch_size=50))
        assert eventually(lambda: topic.count() >= 0.5 * COUNT, 60), logs[1].read_text()
        traffic.let(0.5)
        members[1].send_signal(signal.SIGTERM)
        assert members[1].wait(30) == 0, logs[1].read_text()
        traffic.join(120)
        assert eventually(lambda: topic.count() >= len(traffic.good), 120), logs[2].read_text()
        committed = {}

        def all_is_committed() -> bool:
            committed.update(topic.broker.committed(topic.topic, topic.group))
            return sum(committed.values()) == COUNT

        assert eventually(all_is_committed, 30), committed
        members[2].send_signal(signal.SIGTERM)
        assert members[2].wait(30) == 0, logs[2].read_text()
    finally:
        traffic.let(1)
        traffic.join(60)
        for member in members:
            member.kill()
            member.wait()

    assert len(traffic.good) + len(traffic.bad) == COUNT
    assert sorted(topic.positions()) == sorted(traffic.good)
    letters = topic.broker.read(topic.dead_letter_topic)
    assert set(dead_positions(letters)) == set(traffic.bad)
    said = logs[1].read_text() + logs[2].read_text()
    assert "were given back" in said
    assert "Traceback" not in said
