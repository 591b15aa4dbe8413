"""Rows with every type of column: streamed and in batches, the same predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlops_for_mle.datasets.scoring_outputs import ScoredRowsDataset
from mlops_for_mle.datasets.scoring_sources import ScoringSourceDataset
from mlops_for_mle.scoring.batches import ScoredBatch

from mlops_for_mle.database import engine_for, prepare
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.frame_encoding import plain_rows
from mlops_for_mle.pipelines.data_ingestion.nodes import sort_rows
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.release import Release
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.new_releases import mixed_release
from tests.pipelines.scoring.stage import Stage, connect

pytestmark = pytest.mark.integration

ROWS = mixed_rows(120, seed=5)


@pytest.fixture(scope="module")
def release() -> Release:
    return mixed_release(1)


@pytest.fixture
def stage(database_url: str, tmp_path: Path, release: Release) -> Stage:
    stage = Stage(database_url, MIXED_CONTRACT, str(tmp_path / "releases"))
    prepare(database_url, MIXED_CONTRACT)
    stage.deploy(release)
    return stage


def ingest(stage: Stage) -> None:
    rows = ROWS[list(MIXED_CONTRACT.columns)]
    options = IngestionOptions(source="test")
    batch = sort_rows(rows, MIXED_CONTRACT, options)
    assert len(batch.accepted) == len(rows), batch.rejected.reason.tolist()
    write_batch(engine_for(stage.url), MIXED_CONTRACT, batch)


def expected(release: Release) -> list[Any]:
    matrix = encoding_of(MIXED_CONTRACT).rows(plain_rows(ROWS, MIXED_CONTRACT))
    codes = Predictor(release).predict(matrix).values.tolist()
    return [MIXED_CONTRACT.target.values[code] for code in codes]


def ask(stage: Stage, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connect(stage.url) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows


def test_streamed_rows_have_the_values_of_their_classes(stage: Stage, release: Release) -> None:
    stage.prepare()
    ingest(stage)

    totals = stage.score(batch_size=50)

    assert (totals.scored, totals.rejected) == (len(ROWS), 0)
    found = ask(stage, "SELECT churn FROM churn_prediction ORDER BY source_id")
    assert [value for (value,) in found] == expected(release)
    assert {value for (value,) in found} == {"stays", "leaves"}


@pytest.mark.parametrize("kind", ["table", "file"])
@pytest.mark.parametrize("origin", ["table", "file"])
def test_batches_give_the_same_predictions_with_labels(
    stage: Stage, release: Release, tmp_path: Path, origin: str, kind: str
) -> None:
    options = {"output": "churn_scores" if kind == "table" else str(tmp_path / "out.parquet")}
    if origin == "table":
        ingest(stage)
    else:
        ROWS.to_parquet(tmp_path / "rows.parquet")
        options["source"] = str(tmp_path / "rows.parquet")
    contract, credentials = MIXED_CONTRACT.model_dump(mode="json"), {"con": stage.url}
    source = ScoringSourceDataset(contract, options, credentials).load()
    output = ScoredRowsDataset(options, credentials)

    output.save(ScoredBatch(source, release, ("가입일", "select"), 33))

    found = output.load()
    assert found.churn.tolist() == expected(release)
    assert found.label.tolist() == [
        {"stays": "유지", "leaves": "해지"}[value] for value in found.churn
    ]
    assert [len(one) for one in found.probabilities] == [2] * len(ROWS)
    assert pd.to_datetime(found["가입일"]).tolist() == ROWS["가입일"].tolist()
    assert np.array_equal(found["select"].isna(), ROWS["select"].isna())


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("가입일", "infinity", "is no date"),
        ("가입일", "0044-03-15 BC", "is no date"),
        ("last seen", "-infinity", "is no time"),
        ("가입일", "1999-12-31", "is too early"),
        ("Usage (GB)", "Infinity", "is not finite"),
        ('the "plan"', "gold", "is no known category"),
        ("월 요금", "-1", "is too small"),
    ],
)
def test_a_row_that_does_not_fit_is_rejected_and_the_others_are_scored(
    stage: Stage, column: str, value: str, fault: str
) -> None:
    stage.prepare()
    ingest(stage)
    quoted = '"' + column.replace('"', '""') + '"'
    ask(stage, f'UPDATE "Churn 데이터" SET {quoted} = %s WHERE id = 60', value)

    totals = stage.score(batch_size=50)

    assert (totals.scored, totals.rejected) == (len(ROWS) - 1, 1)
    ((key, reason),) = ask(stage, "SELECT source_id, reason FROM scoring_rejects")
    assert key == 60
    assert reason.startswith(f"{column}: {fault}")
