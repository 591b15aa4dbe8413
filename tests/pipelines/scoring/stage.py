"""A contract's table, a release store and the deployments, and a topic: what scoring works on."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from mlops_for_mle.commands.project import until_stopped
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.copying import relation
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_predictions, prepare
from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.scoring.datasets import (
    PredictionsDataset,
    ScoringReleaseDataset,
    SourceDataset,
)
from mlops_for_mle.pipelines.scoring.following import Follower, uninstall
from mlops_for_mle.pipelines.scoring.nodes import score_rows
from mlops_for_mle.pipelines.scoring.topic import TopicFollower
from mlops_for_mle.releases.deployments import deploy
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.store import ReleaseStore
from tests.end_to_end.commands import CONTEXT, start_forked
from tests.pipelines.scoring.kafka_broker import KafkaBroker
from tests.servers import query, scalar

# What a process of its own says when it may be told to stop.
LISTENING = "process {} listens to signals"

SESSION_SECONDS = 3
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]

INSERT = """
INSERT INTO iris_data (timestamp, sepal_length, sepal_width, petal_length, petal_width, target)
SELECT '2026-01-01'::timestamp + number * interval '1 second',
       4 + number % 40 / 10.0, 3, 1 + number % 59 / 10.0, 0.1 + number % 23 / 10.0, 0
FROM generate_series(1, :count) AS number
"""

# Notes every write to the table of predictions, so that a second one to a row would be seen.
AUDIT = """
CREATE TABLE prediction_writes (source_id bigint, operation text);
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO prediction_writes VALUES (NEW.source_id, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER note_write AFTER INSERT OR UPDATE ON iris_prediction
FOR EACH ROW EXECUTE FUNCTION note_write();
"""


def rows_with_gaps(count: int = 100) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.uniform(0.5, 7, (count, 4)), columns=FEATURES)
    rows.insert(0, "id", np.arange(10, 10 + count))
    rows.loc[::10, "petal_width"] = np.nan
    return rows


@dataclass(frozen=True)
class Stage:
    """Where rows are scored: a database, which is ``DATABASE_URL``, and a release store."""

    url: str
    contract: Contract
    store: str

    def deploy(self, release: Release) -> None:
        """Publish a release and append it to the deployments."""
        ReleaseStore(self.store).publish(release)
        with engine_for(self.url).connect() as connection:
            deploy(connection, release.manifest, reason="test", actor="test")

    def insert(self, count: int) -> None:
        """Insert good rows, as a program that knows nothing of scoring would."""
        query(self.url, INSERT, count=count)

    def insert_row(self, *values: Any) -> int:
        """Insert one row of four features and give its key."""
        columns = ", ".join([*FEATURES, "target"])
        statement = f"INSERT INTO iris_data ({columns}) VALUES (:a, :b, :c, :d, 0) RETURNING id"
        return int(scalar(self.url, statement, **dict(zip("abcd", values, strict=True))))

    def follower(self, size: int = 500) -> Callable[[], Follower]:
        """What makes one."""
        return partial(Follower, self.contract, self.store, size)

    def score(self, size: int = 500) -> Follower:
        """Score what waits, in this process."""
        with closing(self.follower(size)()) as follower:
            follower.run(Event(), follow=False)
        return follower

    def scored(self) -> int:
        return int(scalar(self.url, f"SELECT count(*) FROM {self.contract.name}_prediction"))

    def waiting(self) -> int:
        return int(scalar(self.url, "SELECT count(*) FROM scoring_queue"))

    def entry(self, kind: Any, **scoring: Any) -> Any:
        """An entry of the catalog."""
        facts = {"contract": self.contract.model_dump(mode="json"), "scoring": scoring}
        if kind is ScoringReleaseDataset:
            facts["store"] = self.store
        return kind(credentials={"con": self.url}, **facts)

    def batch(self, ingestion: dict[str, Any] | None = None, **scoring: Any) -> pd.DataFrame:
        """Score a source whole, as the pipeline does, without a session; gives the predictions."""
        source, release, output = (
            self.entry(kind, **scoring)
            for kind in (SourceDataset, ScoringReleaseDataset, PredictionsDataset)
        )
        output.save(score_rows(source.load(), release.load(), ingestion or {}))
        return self.predictions(scoring["output"])

    def predictions(self, output: str) -> pd.DataFrame:
        """What a batch has written into files or a table, in the order of the source."""
        if output.endswith(".parquet"):
            folder = project_path() / output
            assert (folder / "_SUCCESS").exists()
            return pd.read_parquet(folder)
        with engine_for(self.url).connect() as connection:
            every = f"SELECT * FROM {relation(connection, output)} ORDER BY row_number"
            return pd.read_sql(text(every), connection)


@dataclass
class TopicStage:
    """A topic beside a table of predictions."""

    broker: KafkaBroker
    stage: Stage
    topic: str
    output_topic: str | None = None
    servers: str = ""

    def __post_init__(self) -> None:
        # Of its own, since a group remembers members that were cut off for a while.
        self.group = f"{self.topic}-scorers"

    def follower(self, size: int = 500) -> Callable[[], Follower]:
        """What makes one."""
        settings = {
            "bootstrap.servers": self.servers or self.broker.servers,
            "group.id": self.group,
            "session.timeout.ms": str(1000 * SESSION_SECONDS),
            "heartbeat.interval.ms": "300",
        }
        facts = (self.stage.contract, self.stage.store, size, self.topic)
        return partial(TopicFollower, *facts, settings, self.output_topic)

    def score(self) -> Follower:
        """Score what is in the topic, in this process."""
        with closing(self.follower()()) as follower:
            follower.run(Event(), follow=False)
        return follower

    def scored_messages(self) -> list[tuple[Any, ...]]:
        """Which messages have predictions, one entry each."""
        return query(self.stage.url, "SELECT source, source_id FROM iris_prediction ORDER BY 1, 2")

    def rejects(self) -> dict[tuple[str, int], str]:
        """The reasons of the messages that were not scored."""
        found = query(self.stage.url, "SELECT source, source_id, reason FROM scoring_rejects")
        return {(source, number): reason for source, number, reason in found}


def staged(
    url: str, contract: Contract, store: Any, patch: pytest.MonkeyPatch, *releases: Release
) -> Stage:
    """A stage on which nothing was ever scored, with releases that are deployed in turn."""
    patch.setenv("DATABASE_URL", url)
    stage = Stage(url, contract, str(store))
    prepare(url, contract)
    ensure_predictions(url, contract)
    uninstall(contract)
    query(
        url,
        f'TRUNCATE "{contract.table}", {contract.name}_prediction, scoring_queue, scoring_rejects, '
        "deployments RESTART IDENTITY; DROP TABLE IF EXISTS scores, scores_rejects CASCADE",
    )
    for release in releases:
        stage.deploy(release)
    return stage


@contextmanager
def following(stage: Stage | TopicStage, size: int = 500) -> Iterator[None]:
    """A scorer of this process that follows; it has ended well when the block is left."""
    stopping = Event()
    with ThreadPoolExecutor(1) as pool, closing(stage.follower(size)()) as follower:
        outcome = pool.submit(follower.run, stopping, follow=True)
        try:
            yield
        finally:
            stopping.set()
        outcome.result(timeout=90)


def start_process(follower: Callable[[], Follower], log: Path) -> BaseProcess:
    """What `kedro score --follow` does, without the time that Kedro takes to start."""
    log.touch()
    process = CONTEXT.Process(target=_follow, args=(follower, log, {**os.environ}))
    start_forked(process)
    return process


def _follow(follower: Callable[[], Follower], log: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    # Instead of what an import of Kedro has set.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    with closing(follower()) as found:
        stopping = until_stopped()
        logging.getLogger(__name__).info(LISTENING.format(os.getpid()))
        found.run(stopping, follow=True)
