"""`kedro db prune` on a real database and a real store of releases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from mlops_for_mle.commands import database as room
from mlops_for_mle.database.engine import engine_for, lock
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.store import ReleaseStore
from tests.projects import invoke
from tests.releases import iris_release
from tests.servers import eventually, query, scalar, waiting_for_a_lock

# Two windows of 20 rows are what a decision needs.
SETTINGS: dict[str, Any] = {
    "monitoring": {"window": {"rows": 20, "minimum_rows": 20, "minimum_labelled": 10}},
    "retraining": {"windows": 2},
    "scoring": {"release": "iris-v5-run5"},
}
PREDICTIONS = """
INSERT INTO predictions (prediction_id, created_at, prediction, model_version, latency_ms, contract,
    release, features)
SELECT :release || :days || '-' || number, now() - make_interval(days => :days, secs => number), 0,
    1, 1, :contract, :release, '{}' FROM generate_series(1, :rows) AS number
"""
LABELS = """
INSERT INTO feedback (prediction_id, revision, contract, target)
SELECT prediction_id, 1, contract, 0 FROM predictions
WHERE release = :release AND created_at < now() - make_interval(days => :days)
"""
DECISION = """
INSERT INTO retraining_decisions (contract, decision, reasons, evidence_from, acted_at)
VALUES ('iris', 'retrain', '[]', now() - interval '300 days', :acted_at)
"""
BACK = """
INSERT INTO deployments (contract, release, model_version, run_id, event, reason, actor)
SELECT contract, release, model_version, run_id, 'rollback', 'x', 'ada' FROM deployments
WHERE release = :release
"""
COUNTS = "SELECT release, count(*) FROM predictions GROUP BY release ORDER BY release"
BATCH = """
WITH batch AS (
    INSERT INTO ingestion_batches (table_name, source, content_sha256, row_count, rejected_count)
    VALUES (:table, 'a', :table || :id, 1, 20) RETURNING id
)
INSERT INTO rejected_rows (batch_id, table_name, source, row_number, reason, row_data, created_at)
SELECT id, :table, 'a', number, 'r', '{}', now() - :age FROM batch, generate_series(1, 20) AS number
"""
REJECT = """
INSERT INTO scoring_rejects
    (contract, source, source_id, release, model_version, reason, row_data, created_at)
VALUES (:contract, 'a', :id, 'x', 1, 'r', '{}', now() - :age)
"""
ANSWER = """
INSERT INTO idempotency_keys (table_name, key, request_sha256, response, created_at)
VALUES (:table, :id, 'x', '{}', now() - :age)
"""


class Stage:
    """A project whose predictions, releases and parameters a test chooses."""

    def __init__(self, url: str, folder: Path, store: ReleaseStore) -> None:
        self.url, self.store, self._folder = url, store, folder

    def prune(self, *arguments: str, age: str = "90d", code: int = 0) -> str:
        command = ("db", "prune", "--older-than", age, *arguments)
        return invoke(self._folder, *command, code=code).output

    def deploy(self, served: dict[int, int]) -> None:
        """Have releases served in this order, each since some days."""
        with engine_for(self.url).connect() as connection:
            for version, days in served.items():
                release = iris_release(version)
                self.store.publish(release)
                row = deployments.deploy(connection, release.manifest, reason="x", actor="ada")
                assert row is not None
                moved = "UPDATE deployments SET created_at = now() - :age WHERE id = :id"
                self.query(moved, age=timedelta(days=days), id=row.id)

    def releases(self) -> list[str]:
        return sorted(path.name for path in Path(self.store.url, "iris").iterdir())

    def predict(self, release: str, rows: int, days: int, contract: str = "iris") -> None:
        self.query(PREDICTIONS, release=release, rows=rows, days=days, contract=contract)

    def query(self, statement: str, **values: Any) -> list[Any]:
        return query(self.url, statement, **values)

    def count(self, table: str) -> int:
        return int(scalar(self.url, f"SELECT count(*) FROM {table}"))


@pytest.fixture
def stage(database_url, project_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MLOPS_RELEASE_STORE", str(tmp_path / "releases"))
    # So that there are many batches.
    monkeypatch.setattr(room, "_ROWS_A_TRANSACTION", 7)
    (project_folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(SETTINGS), "utf-8")
    return Stage(database_url, project_folder, ReleaseStore(str(tmp_path / "releases")))


def name(version: int) -> str:
    return f"iris-v{version}-run{version}"


def test_what_monitoring_looks_at_stays_and_the_rest_goes_with_its_labels(stage):
    stage.deploy({1: 450, 2: 410, 3: 405})
    for version in (1, 2, 3):
        stage.predict(name(version), rows=100, days=400)
        stage.predict(f"{name(version)}-new", rows=3, days=10)
    # Labels are older than what is newest.
    stage.predict(name(3), rows=15, days=440)
    stage.query(LABELS, release=name(3), days=430)
    stage.query(LABELS, release=name(1), days=300)
    stage.predict("other", rows=5, days=400, contract="wine")
    before = stage.query(COUNTS)

    said = stage.prune()

    assert "predictions      220 rows" in said
    assert "feedback         100 rows" in said
    assert "Nothing was deleted: add --yes." in said
    assert stage.query(COUNTS) == before

    counts, told = said.splitlines()[1:-1], stage.prune("--yes").splitlines()
    assert told[1:] == [*counts, "Deleted."]
    left = dict(stage.query(COUNTS))
    assert {one: left.get(name(one)) for one in (1, 2, 3)} == {1: None, 2: 40, 3: 40 + 15}
    assert [left[f"{name(version)}-new"] for version in (1, 2, 3)] == [3, 3, 3]
    assert left["other"] == 5
    assert stage.count("feedback") == 15
    newest = [f"{name(3)}400-{number}" for number in range(1, 41)]
    assert stage.count(f"predictions WHERE prediction_id IN {tuple(newest)}") == 40


@pytest.mark.parametrize(("acted_at", "left"), [(None, 5), (datetime.now(UTC), 0)])
def test_what_an_open_decision_rests_on_stays_until_it_was_acted_on(stage, acted_at, left):
    stage.predict("long-gone", rows=5, days=299)
    stage.predict("longer-gone", rows=5, days=301)
    stage.query(DECISION, acted_at=acted_at)

    stage.prune("--yes")

    assert stage.query(COUNTS) == ([("long-gone", left)] if left else [])


def test_rejects_and_kept_answers_go_by_their_age(stage):
    for contract, days in product(("iris", "wine"), (100, 5)):
        age = {"contract": contract, "table": f"{contract}_data", "id": days}
        for statement in (BATCH, REJECT, ANSWER):
            stage.query(statement, age=timedelta(days=days), **age)

    assert "rejected_rows    20 rows" in stage.prune("--yes")

    tables = ("rejected_rows", "scoring_rejects", "idempotency_keys", "ingestion_batches")
    assert [stage.count(table) for table in tables] == [60, 3, 3, 4]
    # Until then a client may be answered by it.
    stage.prune("--yes", age="1d")
    assert stage.count("idempotency_keys") == 3


def test_releases_go_that_nothing_serves_and_a_rollback_still_works(stage):
    # Another project, which shares the store, serves 7.
    stage.store.publish(iris_release(7))
    stage.deploy({6: 420, 5: 410, 1: 400, 2: 300, 3: 80, 4: 70})

    assert f"releases         {name(1)}, {name(6)}\n" in stage.prune("--yes")

    assert stage.releases() == [name(version) for version in (2, 3, 4, 5, 7)]
    assert "releases         none" in stage.prune("--yes")
    with engine_for(stage.url).connect() as connection:
        for version in (3, 2):
            row = deployments.roll_back(connection, stage.store, "iris", reason="x", actor="ada")
            assert row.release == name(version)


def test_a_release_stays_that_was_put_back_in_service_meanwhile(stage):
    stage.deploy({1: 400, 2: 300, 3: 200})
    with ThreadPoolExecutor(1) as pool, engine_for(stage.url).connect() as other:
        lock(other, "deployments of iris")
        pruning = pool.submit(stage.prune, "--yes")
        assert eventually(lambda: waiting_for_a_lock(stage.url) == 1)
        other.execute(text(BACK), {"release": name(1)})
        other.commit()
        assert f"releases         {name(2)}\n" in pruning.result(60)

    assert stage.releases() == [name(1), name(3)]


def test_the_command_wants_an_age_of_a_day_at_least(stage):
    assert "at least 86400s" in stage.prune("--yes", age="90m", code=2)
