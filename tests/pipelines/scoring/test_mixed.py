"""Rows with every type of column: streamed and in batches, the same predictions."""

from pathlib import Path
from typing import Any

import pytest

from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.scoring.stage import Stage, connect, staged
from tests.releases import mixed_release

pytestmark = pytest.mark.integration

ROWS = mixed_rows(120, seed=5)


@pytest.fixture(scope="module")
def release() -> Release:
    return mixed_release(1)


@pytest.fixture
def stage(
    database_url: str, tmp_path: Path, release: Release, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    return staged(database_url, MIXED_CONTRACT, tmp_path / "releases", monkeypatch, release)


def ingest(stage: Stage) -> None:
    """Write all rows into the table."""
    columns = list(MIXED_CONTRACT.columns)
    quoted = ", ".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in columns)
    values = ROWS[columns].astype(object)
    with connect(stage.url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            f'INSERT INTO "Churn 데이터" ({quoted}) VALUES ({", ".join(["%s"] * len(columns))})',
            values.where(values.notna(), None).to_numpy().tolist(),
        )
        connection.commit()


def expected(release: Release) -> list[Any]:
    codes = load(release).predict(encode_rows(ROWS, MIXED_CONTRACT)).values.tolist()
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

    totals = stage.score(size=50)

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

    found = stage.batch(chunk_rows=33, **options).load()

    assert found.churn.tolist() == expected(release)
    assert found.label.tolist() == [
        {"stays": "유지", "leaves": "해지"}[value] for value in found.churn
    ]
    assert [len(one) for one in found.probabilities] == [2] * len(ROWS)


FAULTS = [
    ("가입일", "0044-03-15 BC", "is no date"),
    ("last seen", "-infinity", "is no time"),
    ('the "plan"', "gold", "is no known category"),
    ("월 요금", "1e400", "is not finite"),
]


@pytest.mark.parametrize("way", ["stream", "batch"])
@pytest.mark.parametrize(("column", "value", "fault"), FAULTS)
def test_a_row_that_does_not_fit_is_rejected_and_the_others_are_scored(
    stage: Stage, column: str, value: str, fault: str, way: str
) -> None:
    stage.prepare()
    ingest(stage)
    quoted = '"' + column.replace('"', '""') + '"'
    ask(stage, f'UPDATE "Churn 데이터" SET {quoted} = %s WHERE id = 60', value)

    if way == "stream":
        totals = stage.score(size=50)
        assert (totals.scored, totals.rejected) == (len(ROWS) - 1, 1)
        ((key, reason),) = ask(stage, "SELECT source_id, reason FROM scoring_rejects")
    else:
        stage.batch(chunk_rows=50, output="scores")
        assert ask(stage, "SELECT count(*) FROM scores") == [(len(ROWS) - 1,)]
        ((key, reason),) = ask(stage, "SELECT row_number, reason FROM scores_rejects")

    assert key == 60
    assert reason.startswith(f"{column}: {fault}")


def test_what_no_file_can_hold_does_not_stop_a_batch(stage: Stage, tmp_path: Path) -> None:
    ingest(stage)
    ask(stage, 'UPDATE "Churn 데이터" SET timestamp = %s WHERE id < 3', "infinity")

    found = stage.batch(output=str(tmp_path / "out.parquet")).load()

    assert found.timestamp.isna().tolist() == [True, True] + [False] * (len(ROWS) - 2)


@pytest.mark.parametrize("way", ["stream", "batch"])
def test_a_batch_without_one_valid_row_of_text_and_dates_is_rejected_whole(
    stage: Stage, way: str
) -> None:
    stage.prepare()
    ingest(stage)
    ask(stage, """UPDATE "Churn 데이터" SET "월 요금" = '-1'""")

    if way == "stream":
        totals = stage.score()
        assert (totals.scored, totals.rejected) == (0, len(ROWS))
    else:
        assert stage.batch(output="scores").load().empty
    table = "scoring_rejects" if way == "stream" else "scores_rejects"
    reasons = ask(stage, f"SELECT reason FROM {table}")
    assert len(reasons) == len(ROWS)
    assert all(reason.startswith("월 요금: is too small") for (reason,) in reasons)
