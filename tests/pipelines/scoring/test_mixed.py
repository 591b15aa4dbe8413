"""Rows with every type of column: streamed and in batches, the same predictions and rejects."""

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
FAULTS = {
    10: ("가입일", "0044-03-15 BC", "is no date"),
    20: ("last seen", "-infinity", "is no time"),
    30: ('the "plan"', "gold", "is no known category"),
    40: ("월 요금", "1e400", "is not finite"),
}


@pytest.fixture(scope="module")
def release() -> Release:
    return mixed_release(1)


@pytest.fixture
def stage(
    module_database_url: str, release_store: Path, release: Release, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """All rows wait in the table."""
    stage = staged(module_database_url, MIXED_CONTRACT, release_store, monkeypatch)
    stage.clear()
    stage.deploy(release)
    stage.prepare()
    columns = list(MIXED_CONTRACT.columns)
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    values = ROWS[columns].astype(object)
    with connect(stage.url) as cursor:
        cursor.executemany(
            f'INSERT INTO "Churn 데이터" ({names}) VALUES ({", ".join(["%s"] * len(columns))})',
            values.where(values.notna(), None).to_numpy().tolist(),
        )
        cursor.connection.commit()
    return stage


def expected(release: Release) -> list[Any]:
    codes = load(release).predict(encode_rows(ROWS, MIXED_CONTRACT)).values.tolist()
    return [MIXED_CONTRACT.target.values[code] for code in codes]


def ask(stage: Stage, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connect(stage.url) as cursor:
        cursor.execute(statement, values or None)
        rows = cursor.fetchall() if cursor.description else []
        cursor.connection.commit()
        return list(rows)


@pytest.mark.parametrize("output", ["scores", "{folder}/out.parquet"])
@pytest.mark.parametrize("source", [None, "{folder}/rows.parquet"])
def test_all_ways_give_the_same_predictions(
    stage: Stage, release: Release, tmp_path: Path, source: str | None, output: str
) -> None:
    ROWS.to_parquet(tmp_path / "rows.parquet")

    streamed = stage.score(size=50)
    found = stage.batch(
        chunk_rows=33,
        source=source and source.format(folder=tmp_path),
        output=output.format(folder=tmp_path),
    )

    answers = expected(release)
    assert set(answers) == {"stays", "leaves"}
    assert (streamed.scored, streamed.rejected) == (len(ROWS), 0)
    values = ask(stage, "SELECT churn FROM churn_prediction ORDER BY source_id")
    assert [value for (value,) in values] == answers
    assert found.churn.tolist() == answers
    assert found.label.tolist() == [{"stays": "유지", "leaves": "해지"}[one] for one in answers]
    assert [len(one) for one in found.probabilities] == [2] * len(ROWS)


def test_rows_that_do_not_fit_are_rejected_and_the_others_are_scored(stage: Stage) -> None:
    for key, (column, value, _) in FAULTS.items():
        quoted = '"' + column.replace('"', '""') + '"'
        ask(stage, f'UPDATE "Churn 데이터" SET {quoted} = %s WHERE id = {key}', value)

    streamed = stage.score(size=50)
    found = stage.batch(chunk_rows=50, output="scores")

    assert (streamed.scored, streamed.rejected) == (len(ROWS) - 4, 4)
    assert len(found) == len(ROWS) - 4
    for table, number in (("scoring_rejects", "source_id"), ("scores_rejects", "row_number")):
        rejects = dict(ask(stage, f"SELECT {number}, reason FROM {table}"))
        assert rejects.keys() == FAULTS.keys()
        for key, (column, _, fault) in FAULTS.items():
            assert rejects[key].startswith(f"{column}: {fault}")


def test_what_no_file_can_hold_does_not_stop_a_batch(stage: Stage, tmp_path: Path) -> None:
    ask(stage, 'UPDATE "Churn 데이터" SET timestamp = %s WHERE id < 3', "infinity")

    found = stage.batch(output=str(tmp_path / "out.parquet"))

    assert found.timestamp.isna().tolist() == [True, True] + [False] * (len(ROWS) - 2)


def test_a_batch_without_one_valid_row_of_text_and_dates_is_rejected_whole(stage: Stage) -> None:
    ask(stage, """UPDATE "Churn 데이터" SET "월 요금" = '-1'""")

    streamed = stage.score()
    found = stage.batch(output="scores")

    assert (streamed.scored, streamed.rejected) == (0, len(ROWS))
    assert found.empty
    for table in ("scoring_rejects", "scores_rejects"):
        reasons = [reason for (reason,) in ask(stage, f"SELECT reason FROM {table}")]
        assert len(reasons) == len(ROWS)
        assert all(reason.startswith("월 요금: is too small") for reason in reasons)
