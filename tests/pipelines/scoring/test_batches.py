"""`kedro run --pipeline scoring`: any table, query or file to a table or files, or nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from kedro.io import DatasetError
from psycopg2.errors import LockNotAvailable

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions
from mlops_for_mle.pipelines.scoring.datasets import (
    PredictionsDataset,
    ScoringReleaseDataset,
    SourceDataset,
)
from mlops_for_mle.pipelines.scoring.nodes import Batch, Part
from mlops_for_mle.pipelines.scoring.outputs import output_of
from mlops_for_mle.releases.predictor import load_predictor
from tests.expectations import refused
from tests.pipelines.scoring.stage import FEATURES, Stage, rows_with_gaps
from tests.releases import house_release
from tests.servers import eventually, query, scalar, waiting_for_a_lock

ROW = pa.table({"row_number": [1]})


def batch_of(*parts: Part) -> Batch:
    """What only has to be written, without a release that has scored it."""
    empty = ROW.slice(0, 0)
    return Batch("any", (empty, empty), nullcontext([*parts]), score)


def score(part: Part) -> Iterator[tuple[pa.Table, pa.Table]]:
    return ((rows, rows.slice(0, 0)) for rows in part.read(["row_number"]))


def rows_of(stage: Stage, table: str = "iris_data") -> int:
    return int(scalar(stage.url, f"SELECT count(*) FROM {table}"))


@pytest.fixture(params=["scores", "out.parquet"])
def output(request, tmp_path):
    """A table or a folder."""
    name = str(request.param)
    return name if name == "scores" else str(tmp_path / "new" / name)


@pytest.mark.parametrize(
    ("scheduler", "group_rows", "chunk_rows", "part_count"),
    [("threads", 30, 7, 4), ("processes", 3, 9, 12)],
)
def test_a_file_becomes_files_of_predictions_with_the_rejects_beside_them(
    stage, release, tmp_path, scheduler, group_rows, chunk_rows, part_count
):
    rows = rows_with_gaps()
    rows.to_parquet(tmp_path / "rows.parquet", row_group_size=group_rows)

    found = stage.batch(
        chunk_rows=chunk_rows,
        source=str(tmp_path / "rows.parquet"),
        output=str(tmp_path / "new/out.parquet"),
        engine={"scheduler": scheduler},
    )

    good = rows[rows.petal_width.notna()]
    answers = load_predictor(release).predict(good[FEATURES].to_numpy()).values
    assert found.columns.tolist() == [
        *("row_number", "id", "iris_class", "label", "probabilities", "model_version", "release")
    ]
    assert found.row_number.tolist() == (good.index + 1).tolist()
    assert found.id.tolist() == good.id.tolist()
    assert found.iris_class.tolist() == answers.tolist()
    assert found.probabilities.map(np.argmax).equals(found.iris_class)
    assert {*zip(found.model_version, found.release, strict=True)} == {(1, "iris-v1-run1")}
    rejects = pd.read_parquet(tmp_path / "new/out_rejects.parquet")
    assert rejects.row_number.tolist() == list(range(1, 100, 10))
    assert rejects.reason.str.startswith("petal_width: is missing").all()
    assert '"id": 10' in rejects.row_data[0]
    names = sorted(path.name for path in (tmp_path / "new").rglob("*"))
    assert [name[:10] for name in names] == [
        *("_SUCCESS", "_SUCCESS", "out.parque", "out_reject"),
        *(f"part-{number:05}" for number in range(part_count) for _ in range(2)),
    ]


def test_more_threads_than_pooled_connections_wait_for_none(stage, monkeypatch):
    stage.insert(60)
    monkeypatch.setattr("joblib._parallel_backends.cpu_count", lambda: 30)

    assert len(stage.batch(chunk_rows=2, output="scores")) == 60


@pytest.mark.parametrize(
    ("key", "value"),
    [("timestamptz", "now() + n * interval '1 us'"), ('text COLLATE "C"', "chr(39) || n")],
)
def test_a_table_is_divided_by_whatever_its_key_is(stage, key, value):
    table = f"keyed_{key[:4]}"
    query(stage.url, f'CREATE TABLE {table} ("the %key" {key} PRIMARY KEY, id bigint)')
    query(stage.url, f"INSERT INTO {table} SELECT {value}, n FROM generate_series(1, 100) AS n")
    for name in FEATURES:
        query(stage.url, f"ALTER TABLE {table} ADD COLUMN {name} float8 DEFAULT 1.5")

    found = stage.batch(chunk_rows=7, source=table, output="scores")

    assert found.row_number.tolist() == list(range(1, 101))
    assert sorted(found.id) == list(range(1, 101))


def test_all_parts_of_a_table_are_of_one_moment(stage):
    stage.insert(20)

    with stage.entry(SourceDataset, chunk_rows=5).load().parts as parts:
        query(stage.url, "UPDATE iris_data SET id = id + 100")
        stage.insert(3)
        read = [table for part in parts for table in part.read(["id"])]

    assert len(parts) == 4
    assert sorted(pa.concat_tables(read)["id"].to_pylist()) == list(range(1, 21))


def test_a_table_that_is_emptied_meanwhile_ends_a_run_instead_of_holding_it_for_ever(stage):
    stage.insert(20)
    with ThreadPoolExecutor(1) as pool:
        with stage.entry(SourceDataset).load().parts as (part,):
            emptying = pool.submit(query, stage.url, "TRUNCATE iris_data")
            assert eventually(lambda: waiting_for_a_lock(stage.url) == 1)
            with pytest.raises(LockNotAvailable):
                next(part.read(["id"]))
        emptying.result(timeout=30)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("SELECT sneak() AS id, {features} FROM iris_data", "read-only transaction"),
        ("SELECT 1) TO STDOUT; COMMIT; DELETE FROM iris_data; --", "syntax error"),
    ],
)
def test_a_query_cannot_change_anything(stage, source, said):
    stage.insert(3)
    query(
        stage.url,
        "CREATE OR REPLACE FUNCTION sneak() RETURNS float8 LANGUAGE sql AS "
        "'DELETE FROM iris_data RETURNING 1::float8'",
    )
    with pytest.raises(Exception, match=said):
        stage.batch(source=source.replace("{features}", ", ".join(FEATURES)), output="t")
    assert rows_of(stage) == 3


def test_a_table_that_is_there_keeps_its_grants_indexes_and_views(stage):
    stage.insert(5)
    stage.batch(output="scores")
    query(
        stage.url,
        "CREATE INDEX by_class ON scores (iris_class); GRANT SELECT ON scores TO PUBLIC; "
        "CREATE VIEW classes AS SELECT iris_class, count(*) FROM scores GROUP BY 1; "
        "ALTER TABLE scores ADD COLUMN noted_at timestamptz DEFAULT now()",
    )
    stage.insert(5)

    stage.batch(output="scores")

    assert scalar(stage.url, "SELECT sum(count) FROM classes") == 10
    assert scalar(stage.url, "SELECT count(*) FROM pg_indexes WHERE indexname = 'by_class'") == 1
    assert scalar(stage.url, "SELECT count(noted_at) FROM scores") == 10
    grant = "SELECT array_to_string(relacl, ' ') FROM pg_class WHERE relname = 'scores'"
    assert "=r/" in scalar(stage.url, grant)


def test_a_failed_run_leaves_what_was_there(stage, output):
    stage.insert(30)
    stage.batch(output=output)

    def fail(columns: list[str]) -> Iterator[pa.Table]:
        raise UserError("the disk is gone")

    parts = [Part(1, lambda _: iter([ROW])), Part(2, fail)]

    with pytest.raises(Exception, match="the disk is gone"):
        stage.entry(PredictionsDataset, output=output).save(batch_of(*parts))

    tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^scor(es|ing_st)'"
    files = [*Path(output).parent.rglob("*/*")] if output != "scores" else []
    assert scalar(stage.url, tables) + len(files) // 2 == 2
    assert len(stage.predictions(output)) == 30


def test_what_a_dead_worker_has_left_is_not_published(stage, output):
    """A part whose first attempt was written whole, but never reported."""
    rows = pa.table({"row_number": [1, 2, 3]})
    place = output_of(output, stage.url, rows.schema)

    with place.staged():
        lost, reported = (f"part-0-{one * 32}" for one in "0f")
        for attempt in (lost, reported):
            with place.writing(attempt) as write:
                write(rows)
        with engine_for(stage.url).begin() as connection:
            place.publish([reported], connection)

    assert stage.predictions(output).row_number.tolist() == [1, 2, 3]


def test_of_two_runs_into_one_output_one_is_refused(stage, output):
    """Neither takes what the other has staged for its own, or away."""
    # The same place in other words.
    same = stage.entry(PredictionsDataset, output=output.replace("/new/", "/new/./"))

    def is_refused() -> None:
        with pytest.raises(DatasetError, match="Another run scores into"):
            same.save(batch_of(Part(1, lambda _: iter([ROW] * 5))))

    @contextmanager
    def parts() -> Iterator[list[Part]]:
        is_refused()
        yield [Part(1, lambda _: iter([ROW]))]
        # All is published; what was staged is removed next.
        is_refused()

    stage.entry(PredictionsDataset, output=output).save(batch_of()._replace(parts=parts()))

    assert len(stage.predictions(output)) == 1


def test_what_a_crash_of_the_server_has_emptied_is_not_published(fragile, external_server):
    fragile.insert(3)
    fragile.batch(output="scores")

    def read(columns: list[str]) -> Iterator[pa.Table]:
        yield ROW
        external_server.stop("immediate")
        external_server.start()

    with pytest.raises(DatasetError, match="server closed the connection"):
        fragile.entry(PredictionsDataset, output="scores").save(batch_of(Part(1, read)))

    engine_for(fragile.url).dispose()
    assert len(fragile.predictions("scores")) == 3


def test_a_table_or_folder_that_is_something_else_is_left_alone(stage, tmp_path):
    def read(columns: list[str]) -> Iterator[pa.Table]:
        raise AssertionError("scored before the output was looked at")

    stage.insert(3)
    query(stage.url, "CREATE TABLE mine_rejects (note text)")
    for output, table in (("iris_data", "iris_data"), ("mine", "mine_rejects")):
        said = f'column "row_number" of relation "{table}" does not exist'
        with pytest.raises(Exception, match=said):
            stage.entry(PredictionsDataset, output=output).save(batch_of(Part(1, read)))
    own = tmp_path / "own.parquet"
    own.mkdir()
    # As Spark calls them.
    rows_with_gaps(5).to_parquet(own / "part-00000-0b5e-c000.snappy.parquet")
    with pytest.raises(Exception, match=r"own.parquet holds part-00000-.*: name another folder"):
        stage.batch(source=str(own), output=str(own))
    assert rows_of(stage) == 3


def test_names_of_tables_are_quoted_and_may_have_a_schema_and_a_query_is_a_source_too(stage):
    query(stage.url, 'CREATE SCHEMA "Other 표"')
    rows = ", ".join(f"{number}::numeric AS {name}" for number, name in enumerate(FEATURES, 1))
    query(stage.url, f'CREATE TABLE "Other 표"."Rows ""x""" AS SELECT {rows}')

    for source in ('Other 표.Rows "x"', f"SELECT {rows}, 7 AS id WHERE 'a' LIKE '%a%';"):
        found = stage.batch(source=source, output="Other 표.Scores")

        assert found.row_number.tolist() == [1]
        assert rows_of(stage, '"Other 표"."Scores"') == 1
        query(stage.url, 'DROP TABLE "Other 표"."Scores", "Other 표"."Scores_rejects"')


def test_no_rows_give_an_empty_output_in_place_of_what_was_there(stage, output):
    stage.insert(5)
    assert len(stage.batch(output=output, chunk_rows=2)) == 5
    query(stage.url, "TRUNCATE iris_data")

    found = stage.batch(output=output)

    assert found.empty
    assert "iris_class" in found.columns


# Kedro gives what data_ingestion makes of the block where both pipelines run.
@pytest.mark.parametrize("kind", [dict, IngestionOptions.model_validate])
def test_names_and_text_are_read_as_ingestion_reads_them(stage, tmp_path, kind):
    rows = {
        "sepal_length": ["5,1 cm", "6,7 cm", "?"],
        # Written with a combining mark, as file systems of macOS do.
        "Bre\u0301ite": ["3,5", "3,3", "3,0"],
        "petal_length": ["1.4", "5.7", "1.0"],
        "petal_width": ["0.2", "2.1", "0.2"],
        "other": ["9", "9", "9"],
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    ingestion = {
        "source": "parquet",
        "rename": {"Br\u00e9ite": "sepal_width", "other": "petal_length"},
        "missing_marks": {"sepal_length": ["?"]},
        "number_formats": {
            "sepal_length": {"decimal": ",", "unit": "cm"},
            "sepal_width": {"decimal": ","},
        },
    }

    found = stage.batch(
        kind(ingestion), source=str(tmp_path / "rows.parquet"), output="scores", chunk_rows=1
    )

    assert found.row_number.tolist() == [1, 2]
    assert found.label.tolist() == ["setosa", "virginica"]
    ((reason,),) = query(stage.url, "SELECT reason FROM scores_rejects")
    assert reason.startswith("sepal_length: is missing")


def test_a_regression_has_numbers_only(stage, tmp_path):
    released = house_release(1)
    houses = Stage(stage.url, released.manifest.contract, stage.store)
    houses.deploy(released)
    rows = pd.DataFrame({"방 수": [3, 40], "area m2": [80.3, 90.0]})
    rows.to_parquet(tmp_path / "rows.parquet")

    found = houses.batch(source=str(tmp_path / "rows.parquet"), output="houses_scored")

    assert found.columns.tolist() == ["row_number", "price", "model_version", "release"]
    assert found.price.tolist() == [pytest.approx(190.6, rel=1e-3)]


def test_texts_that_csv_and_json_trip_over_arrive_as_they_were(stage, tmp_path):
    texts = ['"', "a,b", "line\nbreak", "", None, "\\N", "NULL", "표", r"\u0000", "\0"]
    rows = rows_with_gaps(len(texts)).assign(id=texts, petal_width=1.0)
    rows.to_parquet(tmp_path / "rows.parquet")

    found = stage.batch(source=str(tmp_path / "rows.parquet"), output="scores")

    assert [None if pd.isna(text) else text for text in found.id] == [*texts[:-1], "�"]


def test_a_release_can_be_named_without_being_deployed(stage, release):
    query(stage.url, "TRUNCATE deployments")

    named = stage.entry(ScoringReleaseDataset, release=release.manifest.release)

    assert named.load().manifest == release.manifest
    with refused(UserError, "is deployed yet: run `kedro run` first"):
        stage.entry(ScoringReleaseDataset).load()
