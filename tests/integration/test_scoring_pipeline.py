"""`kedro run --pipeline scoring`: any table, query or file to a table or file, or nothing."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from mlops_for_mle.contract import Contract
from mlops_for_mle.datasets.scoring_outputs import ScoredRowsDataset
from mlops_for_mle.datasets.scoring_release import ScoringReleaseDataset
from mlops_for_mle.datasets.scoring_sources import ScoringSourceDataset
from mlops_for_mle.errors import (
    ConfigurationError,
    PrerequisiteError,
    ReleaseError,
    SourceError,
    UserError,
)
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.release import Release
from mlops_for_mle.scoring.batches import RowSource, ScoredBatch
from tests.integration.expectations import refused
from tests.integration.projects import run_session
from tests.integration.scoring import Stage
from tests.integration.servers import query, scalar
from tests.releases import house_release, iris_release

pytestmark = pytest.mark.integration

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module")
def release() -> Release:
    return iris_release(3)


@pytest.fixture
def stage(database_url: str, contract: Contract, tmp_path: Path, release: Release) -> Stage:
    stage = Stage(database_url, contract, str(tmp_path / "releases"))
    stage.deploy(release)
    return stage


@contextmanager
def refusing(kind: type[UserError], pattern: str) -> Iterator[None]:
    """Expect one sentence that matches."""
    with refused(kind) as refusal:
        yield
    assert re.search(pattern, refusal.message), refusal.message


class Steps:
    """The pipeline's catalog entries with other parameters, without a session."""

    def __init__(self, stage: Stage, release: Release) -> None:
        self._stage = stage
        self._release = release
        self._credentials = {"con": stage.url}

    def source(self, **scoring: Any) -> RowSource:
        contract = self._stage.contract.model_dump(mode="json")
        return ScoringSourceDataset(contract, scoring, self._credentials).load()

    def run(
        self, kept: Sequence[str] = (), chunk_rows: int = 1_000, **scoring: Any
    ) -> ScoredRowsDataset:
        batch = ScoredBatch(self.source(**scoring), self._release, tuple(kept), chunk_rows)
        output = ScoredRowsDataset(scoring, self._credentials)
        output.save(batch)
        return output


@pytest.fixture
def steps(stage: Stage, release: Release) -> Steps:
    return Steps(stage, release)


def rows_with_gaps(count: int = 100) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.uniform(0.5, 7, (count, 4)), columns=FEATURES)
    rows.insert(0, "id", np.arange(10, 10 + count))
    rows.loc[::10, "petal_width"] = np.nan
    return rows


def answers(release: Release, rows: pd.DataFrame) -> list[int]:
    found = Predictor(release).predict(rows[FEATURES].to_numpy())
    return [int(value) for value in found.values]


def test_a_file_becomes_a_file_of_predictions_with_the_rejects_beside_it(
    steps: Steps, release: Release, tmp_path: Path
) -> None:
    rows = rows_with_gaps()
    rows.to_parquet(tmp_path / "rows.parquet")

    output = steps.run(
        ["id"],
        chunk_rows=7,
        source=str(tmp_path / "rows.parquet"),
        output=str(tmp_path / "new/out.parquet"),
    )

    found = output.load()
    good = rows[rows.petal_width.notna()]
    assert found.columns.tolist() == [
        *("row_number", "id", "iris_class", "label", "probabilities", "model_version", "release")
    ]
    assert found.row_number.tolist() == (good.index + 1).tolist()
    assert found.id.tolist() == good.id.tolist()
    assert found.iris_class.tolist() == answers(release, good)
    assert found.label.map({"setosa": 0, "versicolor": 1, "virginica": 2}).equals(found.iris_class)
    assert found.probabilities.map(np.argmax).equals(found.iris_class)
    assert set(found.model_version) == {3}
    assert set(found.release) == {release.manifest.release}
    rejects = pd.read_parquet(tmp_path / "new/out_rejects.parquet")
    assert rejects.row_number.tolist() == list(range(1, 100, 10))
    assert rejects.reason.str.startswith("petal_width: is ").all()
    assert '"id": 10' in rejects.row_data[0]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *("out.parquet", "out_rejects.parquet")
    }
    assert len(output.preview(5)["data"]) == 5


def test_a_table_becomes_a_table_of_predictions(
    steps: Steps, stage: Stage, release: Release
) -> None:
    stage.insert(50)
    query(stage.url, "UPDATE iris_data SET sepal_width = 'NaN' WHERE id = 7")

    output = steps.run(["timestamp", "id"], chunk_rows=8, output="scores")

    found = output.load()
    assert found.row_number.tolist() == [*range(1, 7), *range(8, 51)]
    assert found.id.tolist() == found.row_number.tolist()
    assert found.timestamp.iloc[0] == pd.Timestamp("2026-01-01 00:00:01")
    observed = pd.DataFrame(
        query(stage.url, f"SELECT {', '.join(FEATURES)} FROM iris_data WHERE id <> 7 ORDER BY id"),
        columns=FEATURES,
    )
    assert found.iris_class.tolist() == answers(release, observed)
    ((kind, total),) = query(
        stage.url,
        "SELECT pg_typeof(probabilities)::text, sum(p) FROM scores, "
        "unnest(probabilities) AS p GROUP BY 1",
    )
    assert (kind, total) == ("double precision[]", pytest.approx(49, abs=1e-3))
    assert query(stage.url, "SELECT row_number FROM scores_rejects") == [(7,)]


def test_a_query_is_scored(steps: Steps, stage: Stage, tmp_path: Path) -> None:
    stage.insert(20)
    source = f"SELECT {', '.join(FEATURES)}, id::text AS name FROM iris_data WHERE id > 12;"

    found = steps.run(["name"], source=source, output=str(tmp_path / "out.parquet")).load()

    assert sorted(found.name) == sorted(str(number) for number in range(13, 21))


def test_a_query_cannot_change_anything(steps: Steps, stage: Stage) -> None:
    stage.insert(3)
    source = "WITH gone AS (DELETE FROM iris_data RETURNING *) SELECT * FROM gone"

    with refusing(SourceError, r"the query: "):
        steps.source(source=source)
    query(
        stage.url,
        "CREATE FUNCTION sneak() RETURNS float8 LANGUAGE sql AS "
        "'DELETE FROM iris_data RETURNING 1::float8'",
    )
    with refusing(SourceError, "read-only transaction"):
        steps.run(source="SELECT *, sneak() FROM iris_data", output="t", kept=["sneak"])
    assert scalar(stage.url, "SELECT count(*) FROM iris_data") == 3


def test_a_second_run_replaces_the_first(steps: Steps, stage: Stage, tmp_path: Path) -> None:
    for output in ("scores", str(tmp_path / "out.parquet")):
        stage.insert(5)
        assert len(steps.run(output=output).load()) == stage_rows(stage)
        stage.insert(5)
        assert len(steps.run(output=output).load()) == stage_rows(stage)


def stage_rows(stage: Stage) -> int:
    return int(scalar(stage.url, "SELECT count(*) FROM iris_data"))


class Breaking:
    """A source that breaks after its first chunk."""

    def __init__(self, source: RowSource) -> None:
        self.name = source.name
        self.schema = source.schema
        self._source = source

    def row_count(self) -> int | None:
        return None

    def chunks(self, columns: Sequence[str], row_limit: int) -> Iterator[pa.Table]:
        yield next(iter(self._source.chunks(columns, row_limit)))
        raise SourceError("the disk is gone")


@pytest.mark.parametrize("kind", ["table", "file"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_failed_run_leaves_what_was_there(
    steps: Steps, stage: Stage, release: Release, tmp_path: Path, kind: str, is_first: bool
) -> None:
    stage.insert(30)
    folder = tmp_path / "out"
    name = "scores" if kind == "table" else str(folder / "out.parquet")
    if not is_first:
        steps.run(output=name)
    output = ScoredRowsDataset({"output": name}, {"con": stage.url})

    with refusing(SourceError, "the disk is gone"):
        output.save(ScoredBatch(Breaking(steps.source()), release, (), 10))

    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '%scor%_%'"
    left = {name for (name,) in query(stage.url, tables)} - {"scoring_queue", "scoring_rejects"}
    files = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if is_first:
        assert not output.exists()
        assert (left, files) == (set(), set())
    else:
        assert len(output.load()) == 30
        assert len(left) + len(files) == 2


def test_a_table_that_somebody_else_has_made_is_never_replaced(
    steps: Steps, stage: Stage, tmp_path: Path
) -> None:
    stage.insert(3)
    rows_with_gaps(5).to_parquet(tmp_path / "rows.parquet")
    query(stage.url, "CREATE TABLE mine_rejects (note text)")
    for output, named in (("iris_data", "iris_data"), ("mine", "mine_rejects")):
        with refusing(UserError, rf"table {named} is there and was not made by this"):
            steps.run(source=str(tmp_path / "rows.parquet"), output=output)
    assert stage_rows(stage) == 3


def test_names_of_tables_are_quoted_and_may_have_a_schema(steps: Steps, stage: Stage) -> None:
    query(stage.url, 'CREATE SCHEMA "Other 표"')
    rows = ", ".join(f"{number}::numeric AS {name}" for number, name in enumerate(FEATURES, 1))
    query(stage.url, f'CREATE TABLE "Other 표"."Rows ""x""" AS SELECT {rows}')

    for _ in range(2):
        found = steps.run(source='Other 표.Rows "x"', output="Other 표.Scores").load()

    assert found.row_number.tolist() == [1]
    assert scalar(stage.url, 'SELECT count(*) FROM "Other 표"."Scores"') == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent", r'table absent: relation "absent" does not exist'),
        ("SELECT nothing", 'the query: column "nothing" does not exist'),
        ("SELECT 1 AS a, 2 AS a", r"the query: column\(s\) a twice"),
        ("absent.parquet", "absent.parquet: there is no such file"),
        ("{folder}/bad.parquet", "bad.parquet: is no Parquet file"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_in_one_sentence(
    steps: Steps, tmp_path: Path, source: str, said: str
) -> None:
    (tmp_path / "bad.parquet").write_text("PAR1 no")
    with refusing(SourceError, said):
        steps.source(source=source.format(folder=tmp_path))


@pytest.fixture
def without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has logged in to S3 on this machine."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("SHARED_CREDENTIALS_FILE", "CONFIG_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


PLACES = [
    ("s3://bucket/rows.parquet", "s3://bucket/rows.parquet cannot be used: Unable to locate cred"),
    ("gs://bucket/rows.parquet", "gs://bucket/rows.parquet cannot be used: Please install gcsfs"),
    ("foo://there/rows.parquet", "foo://there/rows.parquet cannot be used: Protocol not known"),
]


@pytest.mark.usefixtures("without_credentials")
@pytest.mark.parametrize(("place", "said"), PLACES)
def test_a_place_that_cannot_be_used_is_told_before_any_row_is_scored(
    steps: Steps, release: Release, place: str, said: str
) -> None:
    class Untouched:
        """Rows that nobody may read yet."""

        name = "rows"
        schema = pa.schema([(name, pa.float64()) for name in FEATURES])

        def row_count(self) -> int:
            return 1

        def chunks(self, columns: Sequence[str], row_limit: int) -> Iterator[pa.Table]:
            raise AssertionError("a row was read")

    with refusing(UserError, said):
        steps.source(source=place)
    with refusing(UserError, said):
        output = ScoredRowsDataset({"output": place}, {"con": "unused"})
        output.save(ScoredBatch(Untouched(), release, (), 1_000))


@pytest.mark.usefixtures("without_credentials")
def test_a_store_of_releases_that_cannot_be_used_is_named(stage: Stage) -> None:
    contract, credentials = stage.contract.model_dump(mode="json"), {"con": stage.url}
    with refusing(UserError, "s3://bucket/releases cannot be used: Unable to locate credentials"):
        ScoringReleaseDataset(contract, {}, credentials, "s3://bucket/releases").load()


def test_a_source_that_lacks_a_feature_is_refused_before_anything_is_written(
    steps: Steps, tmp_path: Path
) -> None:
    rows_with_gaps().drop(columns="petal_length").to_parquet(tmp_path / "rows.parquet")
    with refusing(SourceError, r"missing column\(s\) petal_length.*found id, sepal"):
        steps.run(source=str(tmp_path / "rows.parquet"), output="scores")


def test_a_column_that_is_kept_cannot_hide_a_prediction(steps: Steps, tmp_path: Path) -> None:
    rows_with_gaps().assign(label="x").to_parquet(tmp_path / "rows.parquet")
    with refusing(ConfigurationError, "a column of their own named label"):
        steps.run(["label"], source=str(tmp_path / "rows.parquet"), output="scores")


@pytest.mark.parametrize("output", ["scores", "{folder}/out.parquet"])
def test_no_rows_give_an_empty_output(steps: Steps, tmp_path: Path, output: str) -> None:
    found = steps.run(["id"], output=output.format(folder=tmp_path)).load()

    assert found.empty
    assert "iris_class" in found.columns


def test_a_regression_has_numbers_only(stage: Stage, tmp_path: Path) -> None:
    released = house_release(1)
    rows = pd.DataFrame({"방 수": [3, 40], "area m2": [80.0, 90.0]})
    rows.to_parquet(tmp_path / "rows.parquet")
    for output in ("houses_scored", str(tmp_path / "out.parquet")):
        found = Steps(stage, released).run(source=str(tmp_path / "rows.parquet"), output=output)

        assert found.load().columns.tolist() == ["row_number", "price", "model_version", "release"]
        assert found.load().price.tolist() == [pytest.approx(190, rel=1e-3)]


def test_texts_that_csv_and_json_trip_over_arrive_as_they_were(
    steps: Steps, stage: Stage, tmp_path: Path
) -> None:
    texts = ['"', "a,b", "line\nbreak", "", None, "\\N", "NULL", "표"]
    rows = rows_with_gaps(len(texts)).assign(note=texts, petal_width=1.0)
    rows.to_parquet(tmp_path / "rows.parquet")

    found = steps.run(["note"], source=str(tmp_path / "rows.parquet"), output="scores").load()

    assert [None if pd.isna(text) else text for text in found.note] == texts


def test_memory_stays_the_same_however_many_rows_there_are(
    steps: Steps, stage: Stage, tmp_path: Path
) -> None:
    """The largest amount of Arrow's memory at a time, for ten times as many rows."""
    rows = rows_with_gaps(2_000)
    peaks = []
    for times in (5, 50):
        with parquet.ParquetWriter(
            tmp_path / f"{times}.parquet", pa.Schema.from_pandas(rows, preserve_index=False)
        ) as writer:
            for _ in range(times):
                writer.write_table(pa.Table.from_pandas(rows, preserve_index=False))
        source = steps.source(source=str(tmp_path / f"{times}.parquet"))
        batch = ScoredBatch(source, iris_release(3), (), 2_000)
        before, peak = pa.total_allocated_bytes(), 0
        for chunk in batch:
            assert len(chunk) == 2_000
            peak = max(peak, pa.total_allocated_bytes() - before)
        peaks.append(peak)

    assert peaks[1] < 1.5 * peaks[0]


def test_the_pipeline_runs_with_what_is_configured_and_told(
    project_folder: Path,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: Release,
) -> None:
    stage.insert(12)
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
    monkeypatch.setenv("DATABASE_URL", stage.url)
    monkeypatch.setenv("MLOPS_RELEASE_STORE", stage.store)
    monkeypatch.chdir(project_folder)

    run_session(project_folder, "scoring")
    found = pd.read_parquet(project_folder / "data/07_model_output/predictions.parquet")
    assert found.id.tolist() == list(range(1, 13))
    assert "timestamp" in found.columns

    told = {"output": "scores", "source": "SELECT * FROM iris_data LIMIT 4", "keep": ["target"]}
    run_session(project_folder, "scoring", scoring=told)
    assert scalar(stage.url, "SELECT count(target) FROM scores") == 4

    query(stage.url, "TRUNCATE deployments")
    with refusing(PrerequisiteError, "never deployed: run `kedro run` first"):
        run_session(project_folder, "scoring")


def test_a_release_can_be_named_without_being_deployed(stage: Stage, release: Release) -> None:
    query(stage.url, "TRUNCATE deployments")
    contract, credentials = stage.contract.model_dump(mode="json"), {"con": stage.url}

    def load(**scoring: Any) -> Release:
        return ScoringReleaseDataset(contract, scoring, credentials, stage.store).load()

    assert load(release=release.manifest.release).manifest == release.manifest
    with refusing(ReleaseError, "iris/absent has no manifest.json"):
        load(release="absent")
    with refusing(PrerequisiteError, "never deployed"):
        load()
