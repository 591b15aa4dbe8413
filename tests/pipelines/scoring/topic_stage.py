"""Scorers of a topic: within a test's process, and in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.scoring.following import Deployed, Totals
from mlops_for_mle.pipelines.scoring.topic import TopicScorer, client_settings
from tests.integration.servers import query
from tests.pipelines.scoring.kafka_broker import KafkaBroker, Sent
from tests.pipelines.scoring.stage import Stage

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

    def scorer(self, totals: Totals, size: int = 500) -> TopicScorer:
        given = {"bootstrap.servers": self.broker.servers, "group.id": self.group}
        settings = client_settings(SESSION | given | self.settings)
        deployed = Deployed(self.stage.contract, self.stage.store)
        contract = self.stage.contract
        return TopicScorer(
            contract, deployed, size, totals, self.topic, settings, self.output_topic
        )

    def score(self) -> Totals:
        """Score what is in the topic, in this process."""
        totals = Totals()
        self.scorer(totals).run(Event(), follow=False)
        return totals

    @contextmanager
    def following(self, size: int = 500) -> Iterator[Totals]:
        """A scorer of this process that follows; it has ended well when the block is left."""
        stopping, totals = Event(), Totals(every=timedelta(seconds=0.2))
        scorer = self.scorer(totals, size)
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(scorer.run, stopping, follow=True)
            try:
                yield totals
            finally:
                stopping.set()
            running.result(60)

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
    stopping, deployed = until_stopped(), Deployed(contract, facts["store"])
    TopicScorer(contract, deployed, facts["size"], Totals(), facts["topic"], settings).run(
        stopping, follow=True
    )


if __name__ == "__main__":
    main()
