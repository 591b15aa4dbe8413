"""Scorers of a topic: within a test's process, and in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.scoring.following import Follower
from mlops_for_mle.pipelines.scoring.topic import Topic, client_settings
from tests.pipelines.scoring.kafka_broker import KafkaBroker, Sent
from tests.pipelines.scoring.stage import Stage, running
from tests.servers import query

SESSION = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}


@dataclass
class TopicStage:
    """A topic beside a table of predictions."""

    broker: KafkaBroker
    stage: Stage
    topic: str
    group: str = ""
    output_topic: str | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Of its own, since a group remembers members that were cut off for a while.
        self.group = self.group or f"{self.topic}-scorers"

    def follower(self, size: int = 500) -> Follower:
        """A scorer of messages."""
        given = {"bootstrap.servers": self.broker.servers, "group.id": self.group}
        settings = client_settings(SESSION | given | self.settings)
        contract = self.stage.contract
        topic = Topic(contract, self.topic, settings, size, self.output_topic)
        return Follower(contract, self.stage.store, topic)

    def score(self) -> Follower:
        """Score what is in the topic, in this process."""
        follower = self.follower()
        follower.run(Event(), follow=False)
        return follower

    @contextmanager
    def following(self, size: int = 500) -> Iterator[None]:
        """A scorer of this process that follows; it has ended well when the block is left."""
        with running(self.follower(size)):
            yield

    def start_process(self, log: Path, size: int) -> "subprocess.Popen[bytes]":
        """A scorer that follows in a process of its own; its log lines go to a file."""
        facts = {
            "contract": self.stage.contract.model_dump(mode="json"),
            "topic": self.topic,
            "group": self.group,
            "size": size,
            "store": self.stage.store,
        }
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", __name__, json.dumps(facts)],
                env={
                    **os.environ,
                    "DATABASE_URL": self.stage.url,
                    "KAFKA_BOOTSTRAP_SERVERS": self.broker.servers,
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def count(self) -> int:
        return len(self.positions())

    def positions(self, table: str = "iris_prediction") -> list[Sent]:
        """Where the messages stand that have predictions or rejects, one entry each."""
        found = query(self.stage.url, f"SELECT source, source_id FROM {table}")
        return [Sent(_partition(source, self.topic), offset) for source, offset in found]

    def rejects(self) -> dict[Sent, str]:
        """The reasons of the messages that were not scored."""
        found = query(self.stage.url, "SELECT source, source_id, reason FROM scoring_rejects")
        return {Sent(_partition(place, self.topic), offset): why for place, offset, why in found}


def _partition(source: str, topic: str) -> int:
    name, _, number = source.removeprefix("kafka:").rpartition("/")
    assert name == topic, source
    return int(number)


def main() -> None:
    """What a process of its own does."""
    import logging

    from mlops_for_mle.commands.project import until_stopped

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    facts = json.loads(sys.argv[1])
    contract = Contract.model_validate(facts["contract"])
    settings = client_settings(SESSION | {"group.id": facts["group"]})
    topic = Topic(contract, facts["topic"], settings, facts["size"])
    follower = Follower(contract, facts["store"], topic)
    follower.run(until_stopped(), follow=True)


if __name__ == "__main__":
    main()
