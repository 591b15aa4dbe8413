"""Members of a consumer group that are killed while messages arrive and the database goes away."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from mlops_for_mle.contract import Contract
from tests.pipelines.scoring.kafka_broker import KafkaBroker, Sent, bare, wrapped
from tests.pipelines.scoring.stage import staged
from tests.pipelines.scoring.topic_stage import TopicStage
from tests.releases import iris_release
from tests.servers import ExternalPostgres, eventually, scalar

pytestmark = pytest.mark.integration

# MLOPS_TEST_MESSAGES=200000 MLOPS_TEST_KILL_EVERY=5 MLOPS_TEST_KILLS=12 is the long form.
COUNT = int(os.environ.get("MLOPS_TEST_MESSAGES", "3000"))
KILL_EVERY = float(os.environ.get("MLOPS_TEST_KILL_EVERY", "2"))
KILLS = int(os.environ.get("MLOPS_TEST_KILLS", "3"))
BAD_EVERY = min(1_000, COUNT // 20)
CHUNK = COUNT // 100


@pytest.fixture
def topic(
    broker: KafkaBroker,
    external_server: ExternalPostgres,
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> TopicStage:
    url = external_server.create_database()
    stage = staged(url, contract, tmp_path / "releases", monkeypatch, iris_release())
    return TopicStage(broker, stage, broker.make_topic(6))


def is_bad(number: int) -> bool:
    return number % BAD_EVERY == 37


def message(number: int) -> bytes:
    """Some are malformed, half of the others come in Kafka Connect's envelope."""
    if is_bad(number):
        return (b"{", b"null", bare(number, sepal_length="five"))[number // BAD_EVERY % 3]
    return bare(number) if number % 2 else wrapped(number)


class Traffic(threading.Thread):
    """Sends the messages little by little, for as long as members are killed."""

    def __init__(self, topic: TopicStage) -> None:
        super().__init__()
        self._topic = topic
        self.good: list[Sent] = []
        self.bad: list[Sent] = []

    def run(self) -> None:
        for first in range(0, COUNT, CHUNK):
            numbers = range(first, min(first + CHUNK, COUNT))
            sent = self._topic.broker.send(self._topic.topic, map(message, numbers))
            for number, place in zip(numbers, sent, strict=True):
                (self.bad if is_bad(number) else self.good).append(place)
            time.sleep(KILL_EVERY * KILLS / 100)


def test_members_that_are_killed_and_replaced_score_each_good_message_once(
    topic: TopicStage, external_server: ExternalPostgres, tmp_path: Path
) -> None:
    logs = (tmp_path / f"member-{number}.log" for number in itertools.count())
    members = [topic.start_process(next(logs), size=500) for _ in range(3)]
    traffic = Traffic(topic)
    try:
        assert eventually(lambda: "partitions=" in (tmp_path / "member-0.log").read_text(), 60)
        traffic.start()
        for kill in range(KILLS):
            time.sleep(KILL_EVERY)
            members[kill % 3].kill()
            members[kill % 3].wait()
            members[kill % 3] = topic.start_process(next(logs), size=500)
            if kill == KILLS // 2:
                external_server.stop("immediate")
                time.sleep(1)
                external_server.start()
        traffic.join(600)
        total = "SELECT (SELECT count(*) FROM iris_prediction) + count(*) FROM scoring_rejects"
        assert eventually(lambda: scalar(topic.stage.url, total) >= COUNT, 180)
        assert eventually(
            lambda: sum(topic.broker.committed(topic.topic, topic.group).values()) == COUNT, 60
        )
        for member in members:
            member.terminate()
            assert member.wait(30) == 0
    finally:
        for member in members:
            member.kill()
            member.wait()

    assert len(traffic.good) + len(traffic.bad) == COUNT
    assert sorted(topic.positions()) == sorted(traffic.good)
    assert sorted(topic.positions("scoring_rejects")) == sorted(traffic.bad)
    assert not any("Traceback" in log.read_text() for log in tmp_path.glob("member-*.log"))
