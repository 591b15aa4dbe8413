"""Scoring a topic of a real broker into a real database."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from mlops_for_mle.scoring.preparation import prepare_scoring
from sqlalchemy import text

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import PrerequisiteError
from tests.integration.servers import (
    ExternalPostgres,
    connection_to,
    eventually,
    query,
    waiting_for_a_lock,
)
from tests.new_releases import iris_release
from tests.pipelines.scoring.kafka_broker import (
    KafkaBroker,
    bare,
    dead_positions,
    headers_of,
    wrapped,
)
from tests.pipelines.scoring.stage import Stage
from tests.pipelines.scoring.topic_stage import TopicStage

pytestmark = pytest.mark.integration

BAD: dict[bytes | None, str] = {
    None: "tombstone",
    b"{": "is no JSON",
    b"\xff\xfe": "is not UTF-8",
    b"[1, 2]": "is no object",
    bare(0, petal_width=-3): "petal_width: is too small",
    bare(0, petal_width="wide"): "petal_width: is no number",
    bare(0).replace(b'"id": 1', b'"id": 1, "id": 2'): "is given more than once",
    json.dumps({"schema": {}, "payload": None}).encode(): "payload: is no object",
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def stage(database_url: str, contract: Contract, tmp_path: Path) -> Stage:
    stage = Stage(database_url, contract, str(tmp_path / "releases"))
    prepare_scoring(database_url, contract)
    stage.deploy(iris_release())
    return stage


@pytest.fixture
def topic(broker: KafkaBroker, stage: Stage) -> TopicStage:
    return TopicStage(broker, stage, broker.make_topic(2))


def test_a_row_of_the_tutorials_connector_becomes_a_row_of_the_tutorials_table(
    topic: TopicStage,
) -> None:
    topic.broker.send(topic.topic, [wrapped(0), bare(0, id=None), wrapped(58, petal_width=2.3)])

    totals = topic.score()

    assert (totals.scored, totals.dead_letters) == (3, 0)
    found = query(
        topic.stage.url, "SELECT timestamp, iris_class, row_key FROM iris_prediction ORDER BY 2, 3"
    )
    observed = datetime.fromisoformat("2026-01-31T12:30:00.5")
    assert found == [(observed, 0, 1), (observed, 0, None), (observed, 2, 59)]


def test_a_bad_message_goes_to_the_dead_letter_topic_as_it_was_with_the_reason(
    topic: TopicStage,
) -> None:
    sent = topic.broker.send(topic.topic, BAD, key=b"a key", headers={"trace": b"42"})
    topic.broker.send(topic.topic, [bare(1)])

    totals = topic.score()

    assert (totals.scored, totals.dead_letters) == (1, len(BAD))
    letters = topic.broker.read(topic.dead_letter_topic)
    assert sorted(dead_positions(letters)) == sorted(sent)
    for letter in letters:
        headers = headers_of(letter)
        assert letter.key() == b"a key"
        assert BAD[letter.value()] in headers["dead_letter.reason"]
        assert headers["trace"] == "42"
        assert headers["dead_letter.topic"] == topic.topic
        assert headers["dead_letter.group"] == topic.group
        assert datetime.fromisoformat(headers["dead_letter.timestamp"])


def test_a_dead_letter_that_is_too_large_goes_without_its_value(topic: TopicStage) -> None:
    value = b"x" * 999_800
    topic.broker.send(topic.topic, [value, bare(1)])

    totals = topic.score()

    assert (totals.scored, totals.dead_letters) == (1, 1)
    (letter,) = topic.broker.read(topic.dead_letter_topic)
    assert letter.value() is None
    assert headers_of(letter)["dead_letter.omitted_bytes"] == str(len(value))


def test_messages_that_are_read_again_have_one_prediction(topic: TopicStage) -> None:
    sent = topic.broker.send(topic.topic, [bare(number) for number in range(50)])

    first = topic.score()
    topic.group = "others, who have committed nothing"
    second = topic.score()

    assert (first.scored, second.scored) == (50, 50)
    assert sorted(topic.positions()) == sorted(sent)


def test_a_group_goes_on_where_it_has_stopped(topic: TopicStage) -> None:
    topic.broker.send(topic.topic, [bare(number) for number in range(20)])
    assert topic.score().scored == 20
    topic.broker.send(topic.topic, [bare(number) for number in range(4)])

    assert topic.score().scored == 4
    assert topic.broker.committed(topic.topic, topic.group) == {0: 12, 1: 12}


def test_messages_of_a_topic_that_was_made_again_are_not_taken_for_the_former_ones(
    topic: TopicStage,
) -> None:
    topic.broker.send(topic.topic, [bare(number) for number in range(10)])
    topic.score()
    topic.broker.delete_topic(topic.topic)
    topic.broker.make_topic(2, topic.topic)
    topic.broker.send(topic.topic, [bare(number) for number in range(10)])

    topic.group = "others, whose offsets are not those of the former topic"
    topic.score()

    assert topic.count() == 20


def test_a_message_has_the_time_of_its_row_or_else_its_own(topic: TopicStage) -> None:
    topic.broker.send(
        topic.topic,
        [bare(0, timestamp=None), bare(1, timestamp=1_769_862_600_500)],
        timestamp=1_700_000_000_000,
    )

    topic.score()

    found = query(topic.stage.url, "SELECT timestamp FROM iris_prediction ORDER BY timestamp")
    assert [one.isoformat() for (one,) in found] == [
        "2023-11-14T22:13:20",
        "2026-01-31T12:30:00.500000",
    ]


def test_a_release_that_is_deployed_meanwhile_scores_the_next_messages(topic: TopicStage) -> None:
    with topic.following():
        topic.broker.send(topic.topic, [bare(0)])
        assert eventually(lambda: topic.count() == 1, 30)
        topic.stage.deploy(iris_release(2))
        versions = "SELECT DISTINCT model_version FROM iris_prediction ORDER BY 1"

        def both() -> bool:
            topic.broker.send(topic.topic, [bare(1)])
            return query(topic.stage.url, versions) == [(1,), (2,)]

        assert eventually(both, 30)


def test_it_waits_for_a_topic_and_for_a_release(
    broker: KafkaBroker, database_url: str, contract: Contract, tmp_path: Path
) -> None:
    prepare_scoring(database_url, contract)
    stage = Stage(database_url, contract, str(tmp_path / "releases"))
    topic = TopicStage(broker, stage, "made-later")
    with topic.following():
        broker.make_topic(2, topic.topic)
        sent = broker.send(topic.topic, [bare(number) for number in range(10)])
        stage.deploy(iris_release())
        assert eventually(lambda: topic.count() == 10, 30)
    assert sorted(topic.positions()) == sorted(sent)


def test_what_is_missing_is_said_where_nobody_waits(broker: KafkaBroker, stage: Stage) -> None:
    with pytest.raises(PrerequisiteError, match="There is no topic nowhere: create it first"):
        TopicStage(broker, stage, "nowhere").score()


def test_brokers_that_do_not_answer_are_said_where_nobody_waits(
    broker: KafkaBroker, stage: Stage
) -> None:
    topic = TopicStage(broker, stage, "any", settings={"bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(PrerequisiteError, match=r"The brokers 127\.0\.0\.1:1 do not answer"):
        topic.score()


def test_messages_outlast_brokers_that_are_away(topic: TopicStage) -> None:
    broker = topic.broker
    with topic.following(batch_size=20):
        sent = broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: topic.count() > 0, 30)
        broker.relay.cut()
        time.sleep(1)
        broker.relay.mend()
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: topic.count() >= 200, 40)
    assert sorted(topic.positions()) == sorted(sent)


@pytest.mark.parametrize("delivery_seconds", [0.5, 30])
def test_dead_letters_wait_for_brokers_that_are_away(
    topic: TopicStage, delivery_seconds: float
) -> None:
    topic.settings = {"delivery_timeout_seconds": delivery_seconds}
    with topic.following() as scorer:
        topic.broker.send(topic.topic, [bare(0)])
        assert eventually(lambda: topic.count() == 1, 30)
        with locked_predictions(topic.stage.url):
            sent = topic.broker.send(topic.topic, [bare(1), b"{"])
            assert eventually(lambda: waiting_for_a_lock(topic.stage.url) > 0)
            topic.broker.relay.cut()
        assert eventually(lambda: topic.count() == 2, 30)
        time.sleep(2)
        topic.broker.relay.mend()
        assert eventually(lambda: scorer.totals.dead_letters == 1, 60)
    letters = topic.broker.read(topic.dead_letter_topic)
    assert set(dead_positions(letters)) == {sent[1]}
    assert topic.count() == 2


@pytest.fixture
def own_database(
    broker: KafkaBroker, external_server: ExternalPostgres, contract: Contract, tmp_path: Path
) -> TopicStage:
    """A topic beside a table on a server that the test may stop."""
    url = external_server.create_database()
    prepare_scoring(url, contract)
    stage = Stage(url, contract, str(tmp_path / "releases"))
    stage.deploy(iris_release())
    return TopicStage(broker, stage, broker.make_topic(2))


def test_messages_outlast_a_database_that_is_away(
    own_database: TopicStage, external_server: ExternalPostgres
) -> None:
    topic, broker = own_database, own_database.broker
    with topic.following(batch_size=20):
        sent = broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: topic.count() > 0, 30)
        external_server.stop("immediate")
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        time.sleep(1)
        external_server.start()
        assert eventually(lambda: topic.count() >= 200, 40)
    assert sorted(topic.positions()) == sorted(sent)
    assert broker.committed(topic.topic, topic.group) == {0: 100, 1: 100}


def test_messages_outlast_a_membership_that_is_lost_while_the_database_is_away(
    own_database: TopicStage, external_server: ExternalPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mlops_for_mle")
    topic, broker = own_database, own_database.broker
    with topic.following(batch_size=20):
        sent = broker.send(topic.topic, [bare(0)])
        assert eventually(lambda: topic.count() == 1, 30)
        external_server.stop("immediate")
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: "cannot be finished" in caplog.text, 30)
        broker.relay.cut()
        # Longer than the session, so that the broker gives the partitions to nobody.
        time.sleep(4)
        broker.relay.mend()
        assert eventually(lambda: "were lost" in caplog.text, 30)
        external_server.start()
        assert eventually(lambda: topic.count() >= 101, 60)
    assert sorted(topic.positions()) == sorted(sent)


@contextmanager
def locked_predictions(url: str) -> Iterator[None]:
    """Keep everybody from writing predictions for a while."""
    with connection_to(url) as connection:
        connection.execute(text("LOCK TABLE iris_prediction IN EXCLUSIVE MODE"))
        yield
        connection.rollback()
