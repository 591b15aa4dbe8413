"""Scoring a topic of a real broker into a real database, and `kedro score-topic`."""

import json
import signal
import time
from datetime import datetime

import pytest

from mlops_for_mle.errors import UserError
from tests.end_to_end.commands import Project, finish
from tests.pipelines.scoring.kafka_broker import bare, wrapped
from tests.pipelines.scoring.stage import SESSION_SECONDS, TopicStage, following
from tests.releases import iris_release
from tests.servers import eventually, query, scalar

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
    bare(0, timestamp="yesterday"): "timestamp: is no time, found 'yesterday'",
    json.dumps({"schema": {}, "payload": None}).encode(): "is no JSON object",
}


def test_a_row_of_the_tutorials_connector_becomes_a_row_of_the_tutorials_table(topic):
    without_time = bare(58, petal_width=2.3, timestamp=None)
    topic.broker.send(topic.topic, [wrapped(0), bare(0, id=None), without_time])

    totals = topic.score()

    assert (totals.scored, totals.rejected) == (3, 0)
    found = query(
        topic.stage.url, "SELECT timestamp, iris_class, row_key FROM iris_prediction ORDER BY 2, 3"
    )
    observed = datetime.fromisoformat("2026-01-31T12:30:00.5")
    assert found == [(observed, 0, 1), (observed, 0, None), (None, 2, 59)]


def test_a_bad_message_is_kept_with_the_reason_and_stops_nothing(topic):
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


def test_messages_that_are_read_again_have_one_prediction_and_another_topic_all_of_them(topic):
    topic.output_topic = topic.broker.make_topic(1)
    messages = [bare(0), b"{", bare(58, petal_width=2.3)]
    good = topic.broker.send(topic.topic, messages)[::2]

    first = topic.score()
    topic.group = "others, who have committed nothing"
    second = topic.score()

    assert (first.scored, second.scored) == (2, 2)
    assert topic.scored_messages() == sorted(good)
    assert len(topic.rejects()) == 1
    found = [json.loads(one.value() or b"") for one in topic.broker.read(topic.output_topic)]
    assert sorted(one["iris_class"] for one in found) == [0, 0, 2, 2]
    assert {one["source"] for one in found} == {f"kafka:{topic.topic}/0"}
    assert {one["release"] for one in found} == {iris_release().manifest.release}


def test_what_is_missing_is_said_where_nobody_waits(broker, stage, monkeypatch):
    with pytest.raises(UserError, match="not available: nowhere"):
        TopicStage(broker, stage, "nowhere").score()
    with pytest.raises(UserError, match=r"brokers do not answer: 127\.0\.0\.1:1"):
        TopicStage(broker, stage, "any", servers="127.0.0.1:1").score()
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "ssl")
    with pytest.raises(UserError, match=r"brokers do not answer: ssl://127\.0\.0\.1:1"):
        TopicStage(broker, stage, "any", servers="127.0.0.1:1").score()


def test_messages_outlast_a_membership_that_is_lost_while_the_database_is_away(
    broker, fragile, external_server, caplog
):
    caplog.set_level("INFO", "mlops_for_mle")
    topic = TopicStage(broker, fragile, broker.make_topic(2))
    with following(topic, size=20):
        sent = broker.send(topic.topic, [bare(0)])
        assert eventually(lambda: len(topic.scored_messages()) == 1)
        external_server.stop("immediate")
        sent += broker.send(topic.topic, [bare(number) for number in range(100)])
        assert eventually(lambda: "tried again in" in caplog.text)
        broker.relay.cut()
        # Longer than the session, so that the broker gives the partitions to nobody.
        time.sleep(1.2 * SESSION_SECONDS)
        broker.relay.mend()
        external_server.start()
        assert eventually(lambda: len(topic.scored_messages()) >= 101)
    assert topic.scored_messages() == sorted(sent)


@pytest.mark.end_to_end
def test_the_command_follows_and_ends_when_told(broker, stage, project_folder):
    topic = TopicStage(broker, stage, broker.make_topic(2))
    variables = {
        "DATABASE_URL": stage.url,
        "MLOPS_RELEASE_STORE": stage.store,
        "KAFKA_BOOTSTRAP_SERVERS": broker.servers,
    }
    # The broker lets a first member wait for half of a session, which is a short one here.
    topic.group = "iris-scoring"
    topic.score()

    process = Project(project_folder, variables).start("score-topic", topic.topic, "--follow")
    sent = broker.send(topic.topic, [b"{", *(bare(number) for number in range(99))])
    ends = {0: 50, 1: 50}
    are_committed = eventually(lambda: broker.committed(topic.topic, topic.group) == ends)
    broker.relay.cut()
    process.send_signal(signal.SIGTERM)
    try:
        # Sooner than a session ends, for which the client would wait.
        finished = finish(process, 40)
    finally:
        broker.relay.mend()

    assert are_committed, finished.text
    assert finished.code == 0, finished.text
    assert "Scored 99 message(s), rejected 1 (see scoring_rejects)." in finished.output
    assert "1 rejected, see scoring_rejects" in finished.errors
    assert topic.scored_messages() == sorted(sent[1:])
