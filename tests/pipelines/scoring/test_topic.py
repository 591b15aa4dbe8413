"""Scoring a topic of a real broker into a real database."""

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from tests.pipelines.scoring.kafka_broker import KafkaBroker, bare, wrapped
from tests.pipelines.scoring.stage import Stage, staged
from tests.pipelines.scoring.topic_stage import TopicStage
from tests.releases import iris_release
from tests.servers import ExternalPostgres, eventually, query, scalar

pytestmark = pytest.mark.integration

BAD: dict[bytes | None, str] = {
    None: "tombstone",
    b"{": "is no JSON",
    b"\xff\xfe": "is no JSON",
    b"[1, 2]": "is no JSON object",
    b"[" * 5_000: "is no JSON",
    bare(0, petal_width=-3): "petal_width: is too small",
    bare(0, petal_width="wide\0 \\u0000"): "petal_width: is no number",
    bare(0, petal_width={"\0": ["\0"]}): "petal_width: is no number",
    bare(0, petal_width=10**400): "petal_width: is not finite",
    bare(0, timestamp="yesterday"): "timestamp: is no ISO 8601 time",
    json.dumps({"schema": {}, "payload": None}).encode(): "is no envelope of Kafka Connect",
}


def test_a_row_of_the_tutorials_connector_becomes_a_row_of_the_tutorials_table(
    topic: TopicStage,
) -> None:
    topic.broker.send(topic.topic, [wrapped(0), bare(0, id=None), wrapped(58, petal_width=2.3)])

    totals = topic.score()

    assert (totals.scored, totals.rejected) == (3, 0)
    found = query(
        topic.stage.url, "SELECT timestamp, iris_class, row_key FROM iris_prediction ORDER BY 2, 3"
    )
    observed = datetime.fromisoformat("2026-01-31T12:30:00.5")
    assert found == [(observed, 0, 1), (observed, 0, None), (observed, 2, 59)]


def test_a_bad_message_is_kept_with_the_reason_and_stops_nothing(topic: TopicStage) -> None:
    sent = topic.broker.send(topic.topic, BAD)
    topic.broker.send(topic.topic, [bare(1)])

    totals = topic.score()

    assert (totals.scored, totals.rejected) == (1, len(BAD))
    found = topic.rejects()
    assert sorted(found) == sorted(sent)
    for place, reason in zip(sent, BAD.values(), strict=True):
        assert reason in found[place]
    kept = "SELECT row_data #>> '{}' FROM scoring_rejects WHERE reason LIKE 'is no JSON: %'"
    assert ("{",) in query(topic.stage.url, kept)
    wide = "SELECT row_data->>'petal_width' FROM scoring_rejects WHERE reason LIKE '%wide%'"
    assert scalar(topic.stage.url, wide) == "wide� \\u0000"


def test_predictions_go_to_another_topic_too(topic: TopicStage) -> None:
    topic.output_topic = topic.broker.make_topic(1)
    topic.broker.send(topic.topic, [bare(0), b"{", bare(58, petal_width=2.3)])

    topic.score()

    found = [json.loads(one.value() or b"") for one in topic.broker.read(topic.output_topic)]
    assert sorted(one["iris_class"] for one in found) == [0, 2]
    assert {one["source"] for one in found} == {f"kafka:{topic.topic}/0"}
    assert {one["release"] for one in found} == {iris_release().manifest.release}


def test_messages_that_are_read_again_have_one_prediction(topic: TopicStage) -> None:
    sent = topic.broker.send(topic.topic, [bare(number) for number in range(50)])

    first = topic.score()
    topic.group = "others, who have committed nothing"
    second = topic.score()

    assert (first.scored, second.scored) == (50, 50)
    assert sorted(topic.positions()) == sorted(sent)


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


def test_it_waits_for_a_topic_and_for_a_release(broker: KafkaBroker, empty_stage: Stage) -> None:
    topic = TopicStage(broker, empty_stage, "made-later")
    with topic.following():
        broker.make_topic(2, topic.topic)
        sent = broker.send(topic.topic, [bare(number) for number in range(10)])
        time.sleep(1)
        empty_stage.deploy(iris_release())
        assert eventually(lambda: topic.count() == 10, 30)
    assert sorted(topic.positions()) == sorted(sent)


def test_what_is_missing_is_said_where_nobody_waits(broker: KafkaBroker, stage: Stage) -> None:
    with pytest.raises(UserError, match="not available: nowhere"):
        TopicStage(broker, stage, "nowhere").score()
    topic = TopicStage(broker, stage, "any", settings={"bootstrap.servers": "127.0.0.1:1"})
    with pytest.raises(UserError, match=r"The brokers 127\.0\.0\.1:1 do not answer"):
        topic.score()


def test_messages_outlast_brokers_that_are_away(topic: TopicStage) -> None:
    broker = topic.broker
    with topic.following(size=20):
        sent = broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: topic.count() > 0, 30)
        broker.relay.cut()
        time.sleep(1)
        broker.relay.mend()
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: topic.count() >= 200, 60)
    assert sorted(topic.positions()) == sorted(sent)


@pytest.fixture
def own_database(
    broker: KafkaBroker,
    external_server: ExternalPostgres,
    contract: Contract,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> TopicStage:
    """A topic beside a table on a server that the test may stop."""
    url = external_server.create_database()
    stage = staged(url, contract, tmp_path / "releases", monkeypatch, iris_release())
    return TopicStage(broker, stage, broker.make_topic(2))


def test_messages_outlast_a_database_that_is_away(
    own_database: TopicStage, external_server: ExternalPostgres
) -> None:
    topic, broker = own_database, own_database.broker
    with topic.following(size=20):
        sent = broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: topic.count() > 0, 30)
        external_server.stop("immediate")
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        time.sleep(1)
        external_server.start()
        assert eventually(lambda: topic.count() >= 200, 40)
        offsets = {0: 100, 1: 100}
        assert eventually(lambda: broker.committed(topic.topic, topic.group) == offsets, 20)
    assert sorted(topic.positions()) == sorted(sent)


def test_messages_outlast_a_membership_that_is_lost_while_the_database_is_away(
    own_database: TopicStage, external_server: ExternalPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mlops_for_mle")
    topic, broker = own_database, own_database.broker
    with topic.following(size=20):
        sent = broker.send(topic.topic, [bare(0)])
        assert eventually(lambda: topic.count() == 1, 30)
        external_server.stop("immediate")
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: "tried again in" in caplog.text, 30)
        broker.relay.cut()
        # Longer than the session, so that the broker gives the partitions to nobody.
        time.sleep(7)
        broker.relay.mend()
        external_server.start()
        assert eventually(lambda: topic.count() >= 101, 60)
    assert sorted(topic.positions()) == sorted(sent)
