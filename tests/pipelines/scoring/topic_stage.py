"""Scorers of a topic: within a test's process, and in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_for_mle.scoring.kafka.brokers import Brokers
from mlops_for_mle.scoring.kafka.progress import Totals
from mlops_for_mle.scoring.kafka.settings import KafkaSettings
from mlops_for_mle.scoring.kafka.topic_scorer import TopicPlan, TopicScorer
from mlops_for_mle.scoring.scorer import ReleaseScorer

from mlops_for_mle.stop_signal import StopSignal
from tests.integration.servers import query
from tests.pipelines.scoring.kafka_broker import KafkaBroker, Sent
from tests.pipelines.scoring.stage import Stage


@dataclass
class TopicStage:
    """A topic beside a table of predictions."""

    broker: KafkaBroker
    stage: Stage
    topic: str
    group: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Of its own, since a group remembers members that were cut off for a while.
        self.group = self.group or f"{self.topic}-scorers"

    @property
    def dead_letter_topic(self) -> str:
        return f"{self.topic}.dead-letter"

    def plan(self, **changes: Any) -> TopicPlan:
        facts = {
            "contract": self.stage.contract,
            "topic": self.topic,
            "group": self.group,
            "dead_letter_topic": self.dead_letter_topic,
            "report_seconds": 0.2,
        }
        return TopicPlan.model_validate(facts | changes)

    def scorer(self, stopping: StopSignal, **changes: Any) -> TopicScorer:
        settings = KafkaSettings.load(
            {"bootstrap_servers": self.broker.servers, "session_timeout_seconds": 3} | self.settings
        )
        release_scorer = ReleaseScorer(self.stage.contract, self.stage.store, self.stage.url)
        return TopicScorer(
            self.plan(**changes),
            Brokers(settings),
            release_scorer,
            lambda: self.stage.url,
            stopping,
        )

    def score(self, **changes: Any) -> Totals:
        """Score what is in the topic, in this process."""
        return self.scorer(StopSignal(), **changes).run()

    @contextmanager
    def following(self, **changes: Any) -> Iterator[TopicScorer]:
        """A scorer of this process that follows; it has ended well when the block is left."""
        stopping = StopSignal()
        scorer = self.scorer(stopping, follow=True, **changes)
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(scorer.run)
            try:
                yield scorer
            finally:
                stopping.set()
            running.result(60)

    def start_process(self, log: Path, **changes: Any) -> subprocess.Popen[bytes]:
        """A scorer that follows in a process of its own; its log lines go to a file."""
        facts = {
            "plan": self.plan(follow=True, **changes).model_dump(mode="json"),
            "servers": self.broker.servers,
            "store": self.stage.store,
        }
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", __name__, json.dumps(facts)],
                env={**os.environ, "DATABASE_URL": self.stage.url},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def count(self) -> int:
        return len(self.positions())

    def positions(self) -> list[Sent]:
        """Where the messages stand that have predictions, one entry a prediction."""
        found = query(self.stage.url, "SELECT source, source_id FROM iris_prediction")
        return [Sent(_partition(source, self.topic), offset) for source, offset in found]


def _partition(source: str, topic: str) -> int:
    place = source.partition("@")[0].removeprefix("kafka:")
    name, _, number = place.rpartition("/")
    assert name == topic, source
    return int(number)


def main() -> None:
    """What a process of its own does."""
    import logging

    from mlops_for_mle.database import database_url

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    facts = json.loads(sys.argv[1])
    plan = TopicPlan.model_validate(facts["plan"])
    settings = KafkaSettings.load(
        {"bootstrap_servers": facts["servers"], "session_timeout_seconds": 3}
    )
    stopping = StopSignal()
    stopping.catch_signals()
    release_scorer = ReleaseScorer(plan.contract, facts["store"], database_url())
    TopicScorer(plan, Brokers(settings), release_scorer, database_url, stopping).run()


if __name__ == "__main__":
    main()
