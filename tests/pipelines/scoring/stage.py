"""A contract's table, a release store and the deployments: what scoring works on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_predictions, prepare
from mlops_for_mle.pipelines.scoring import stream
from mlops_for_mle.pipelines.scoring.datasets import (
    PredictionsDataset,
    ScoringReleaseDataset,
    SourceDataset,
)
from mlops_for_mle.pipelines.scoring.following import Follower
from mlops_for_mle.pipelines.scoring.nodes import Source, score_rows
from mlops_for_mle.pipelines.scoring.options import ScoringOptions
from mlops_for_mle.releases.deployments import deploy
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.store import ReleaseStore
from tests.servers import query, scalar

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


@dataclass(frozen=True)
class Stage:
    """Where rows are scored.

    Attributes:
        url: The database, which has to be ``DATABASE_URL`` where rows are taken from the queue.
        contract: Names its table.
        store: The URL of the release store.
    """

    url: str
    contract: Contract
    store: str

    def prepare(self) -> None:
        """Make all tables and have new rows queued."""
        prepare(self.url, self.contract)
        ensure_predictions(self.url, self.contract)
        stream.install(self.contract)

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
        statement = (
            "INSERT INTO iris_data (sepal_length, sepal_width, petal_length, petal_width, target) "
            "VALUES (:a, :b, :c, :d, 0) RETURNING id"
        )
        return int(scalar(self.url, statement, **dict(zip("abcd", values, strict=True))))

    def audit(self) -> None:
        """Note every write to the table of predictions from now on."""
        with connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(AUDIT)
            connection.commit()

    def follower(self, size: int = 500) -> Follower:
        """A scorer of rows that wait."""
        queue = stream.RowQueue(self.contract, size)
        return Follower(self.contract, self.store, queue)

    def score(self, size: int = 500) -> Follower:
        """Score what waits, in this process."""
        follower = self.follower(size)
        follower.run(Event(), follow=False)
        return follower

    @contextmanager
    def following(self) -> Iterator[None]:
        """A scorer of this process that follows; it has ended well when the block is left."""
        with running(self.follower()):
            yield

    def scored(self) -> int:
        return int(scalar(self.url, f"SELECT count(*) FROM {self.contract.name}_prediction"))

    def waiting(self) -> int:
        return int(scalar(self.url, "SELECT count(*) FROM scoring_queue"))

    def unscored(self) -> int:
        """How many rows of the table have no prediction."""
        return int(
            scalar(
                self.url,
                "SELECT count(*) FROM iris_data LEFT JOIN iris_prediction "
                "ON source = 'iris_data' AND source_id = iris_data.id "
                "WHERE source_id IS NULL",
            )
        )

    def source(self, source: str | None = None) -> Source:
        """What the catalog gives for a source."""
        raw = self.contract.model_dump(mode="json")
        return SourceDataset(raw, {"con": self.url}, source).load()

    def batch(self, **scoring: Any) -> PredictionsDataset:
        """Score a source whole, as the pipeline does, without a session."""
        options = ScoringOptions.model_validate(scoring)
        contract = self.contract.model_dump(mode="json")
        release = ScoringReleaseDataset(contract, {"con": self.url}, self.store, options.release)
        output = PredictionsDataset(options.output, {"con": self.url})
        output.save(score_rows(self.source(options.source), release.load(), options, {}))
        return output


def staged(
    url: str, contract: Contract, store: Any, patch: pytest.MonkeyPatch, *releases: Release
) -> Stage:
    """A stage over the database of this process, with releases that are deployed in turn."""
    patch.setenv("DATABASE_URL", url)
    stage = Stage(url, contract, str(store))
    prepare(url, contract)
    ensure_predictions(url, contract)
    for release in releases:
        stage.deploy(release)
    return stage


@contextmanager
def running(follower: Follower) -> Iterator[None]:
    """Have it follow; it has ended well when the block is left."""
    stopping = Event()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(follower.run, stopping, follow=True)
        try:
            yield
        finally:
            stopping.set()
        outcome.result(timeout=60)


@contextmanager
def connect(url: str) -> Iterator[Any]:
    """A plain connection of psycopg2."""
    parts = make_url(url).set(drivername="postgresql")
    connection = psycopg2.connect(parts.render_as_string(hide_password=False))
    try:
        yield connection
    finally:
        connection.close()
