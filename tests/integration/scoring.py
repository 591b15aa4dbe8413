"""A contract's table, a release store and the deployments: what scoring works on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy.engine import make_url

from mlops_for_mle import deployments
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import engine_for
from mlops_for_mle.release import Release, ReleaseStore
from mlops_for_mle.scoring.plan import ScoringPlan
from mlops_for_mle.scoring.preparation import prepare_scoring
from mlops_for_mle.scoring.row_queue import RowQueue
from mlops_for_mle.scoring.worker import ScoringWorker, Totals
from mlops_for_mle.stop_signal import StopSignal
from tests.integration.servers import query, scalar

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
        url: The database.
        contract: Names its table.
        store: The URL of the release store.
    """

    url: str
    contract: Contract
    store: str

    @property
    def queue(self) -> RowQueue:
        return RowQueue(self.contract)

    def prepare(self) -> None:
        """Make all tables and have new rows queued."""
        prepare_scoring(self.url, self.contract)
        self.queue.install(self.url)

    def deploy(self, release: Release) -> None:
        """Publish a release and append it to the deployments."""
        manifest = release.manifest
        ReleaseStore(self.store).publish(release)
        with engine_for(self.url).begin() as connection:
            deployments.append(
                connection,
                contract=manifest.contract.name,
                event="deploy",
                release=manifest.release,
                model_version=manifest.model.version,
                run_id=manifest.model.run_id,
                reason="test",
                actor="test",
            )

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

    def plan(self, **changes: Any) -> ScoringPlan:
        facts = {"contract": self.contract, "release_store": self.store, "report_seconds": 0.2}
        return ScoringPlan.model_validate(facts | changes)

    def score(self, **changes: Any) -> Totals:
        """Score what waits, in this process."""
        return ScoringWorker(self.plan(**changes), lambda: self.url, StopSignal()).run()

    @contextmanager
    def following(self, **changes: Any) -> Iterator[ScoringWorker]:
        """A worker of this process that follows; it has ended well when the block is left."""
        stopping = StopSignal()
        plan = self.plan(follow=True, **changes)
        worker = ScoringWorker(plan, lambda: self.url, stopping)
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(worker.run)
            try:
                yield worker
            finally:
                stopping.set()
            outcome.result(timeout=30)

    def scored(self) -> int:
        return int(scalar(self.url, "SELECT count(*) FROM iris_prediction"))

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


@contextmanager
def connect(url: str) -> Iterator[Any]:
    """A plain connection of psycopg2."""
    parts = make_url(url).set(drivername="postgresql")
    connection = psycopg2.connect(parts.render_as_string(hide_password=False))
    try:
        yield connection
    finally:
        connection.close()
