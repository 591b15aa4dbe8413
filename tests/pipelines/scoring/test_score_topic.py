"""`kedro score-topic` as a person or a container runs it."""

import signal
from pathlib import Path

import pytest

from tests.end_to_end.commands import Project, finish
from tests.pipelines.scoring.kafka_broker import KafkaBroker, bare, wrapped
from tests.pipelines.scoring.stage import Stage
from tests.pipelines.scoring.topic_stage import TopicStage
from tests.servers import eventually

pytestmark = pytest.mark.end_to_end

PASSWORD = "a password that nobody may see"


@pytest.fixture
def topic(broker: KafkaBroker, stage: Stage) -> TopicStage:
    return TopicStage(broker, stage, broker.make_topic(2), group="iris-scoring")


@pytest.fixture
def project(project_folder: Path, topic: TopicStage) -> Project:
    return Project(
        project_folder,
        {
            "DATABASE_URL": topic.stage.url,
            "MLOPS_RELEASE_STORE": topic.stage.store,
            "KAFKA_BOOTSTRAP_SERVERS": topic.broker.servers,
        },
    )


def test_it_scores_what_is_in_the_topic_and_ends(topic: TopicStage, project: Project) -> None:
    sent = topic.broker.send(topic.topic, [bare(0), b"{", wrapped(1)])

    finished = project.succeed("score-topic", topic.topic)

    assert "Scored 2 message(s), rejected 1 (see scoring_rejects)." in finished.output
    assert "is no JSON" in finished.errors
    assert sorted(topic.positions()) == sorted([sent[0], sent[2]])


def test_a_stopped_follower_has_committed_all_that_it_scored(
    topic: TopicStage, project: Project
) -> None:
    process = project.start("score-topic", topic.topic, "--follow")
    topic.broker.send(topic.topic, [bare(number) for number in range(100)])
    all_are_scored = eventually(lambda: topic.count() == 100, 90)
    process.send_signal(signal.SIGTERM)

    finished = finish(process)

    assert all_are_scored, finished.text
    assert finished.code == 0, finished.text
    assert "Scored 100 message(s)." in finished.output
    assert topic.broker.committed(topic.topic, topic.group) == {0: 50, 1: 50}


def test_a_follower_ends_when_told_although_its_brokers_are_away(
    topic: TopicStage, project: Project
) -> None:
    process = project.start("score-topic", topic.topic, "--follow")
    topic.broker.send(topic.topic, [bare(number) for number in range(100)])
    all_are_scored = eventually(lambda: topic.count() == 100, 90)
    topic.broker.relay.cut()
    process.send_signal(signal.SIGTERM)

    try:
        # Sooner than a session ends, for which the client would wait.
        finished = finish(process, 40)
    finally:
        topic.broker.relay.mend()

    assert all_are_scored, finished.text
    assert finished.code == 0, finished.text
    assert "Scored 100 message(s)." in finished.output


def test_a_login_that_is_refused_is_said_without_its_password(
    topic: TopicStage, project: Project
) -> None:
    project.variables |= {
        "KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "scorer",
        "KAFKA_SASL_PASSWORD": PASSWORD,
    }

    finished = project.kedro("score-topic", topic.topic)

    assert finished.code == 1
    assert "do not answer: sasl_plaintext://" in finished.errors
    assert "Traceback" not in finished.text
    assert PASSWORD not in finished.text
