"""Rows with every type of column: streamed and in batches, the same predictions and rejects."""

from typing import Any

import pytest

from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.predictor import load
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.scoring.stage import staged
from tests.releases import mixed_release
from tests.servers import connection_to, query

pytestmark = pytest.mark.integration

ROWS = mixed_rows(120, seed=5)
TABLE = MIXED_CONTRACT.table
FAULTS = {
    10: ("가입일", "0044-03-15 BC", "is no date"),
    20: ("last seen", "-infinity", "is no time"),
    30: ('the "plan"', "gold", "is no known category"),
    40: ("월 요금", "1e400", "is not finite"),
}
# How a file was written that the rows once came from; nothing here is.
WRITTEN = {
    "decimal": "comma",
    "number_formats": {"월 요금": {"decimal": ",", "thousands": "."}},
    "date_formats": dict.fromkeys(("가입일", "last seen", "timestamp"), "%d.%m.%Y"),
}


@pytest.fixture(scope="module")
def release():
    return mixed_release(1)


@pytest.fixture
def stage(module_database_url, release_store, release, monkeypatch):
    """All rows wait in the table."""
    stage = staged(module_database_url, MIXED_CONTRACT, release_store, monkeypatch)
    stage.clear()
    stage.deploy(release)
    stage.prepare()
    with connection_to(stage.url) as connection:
        columns = list(MIXED_CONTRACT.columns)
        ROWS[columns].to_sql(TABLE, connection, if_exists="append", index=False)
        connection.commit()
    return stage


def expected(release: Release) -> list[Any]:
    codes = load(release).predict(encode_rows(ROWS, MIXED_CONTRACT)).values.tolist()
    return [MIXED_CONTRACT.target.values[code] for code in codes]


@pytest.mark.parametrize(
    ("source", "output"), [(None, "scores"), ("{folder}/rows.parquet", "{folder}/out.parquet")]
)
def test_all_ways_give_the_same_predictions(stage, release, tmp_path, source, output):
    ROWS.to_parquet(tmp_path / "rows.parquet")
    query(stage.url, f'UPDATE "{TABLE}" SET "월 요금" = \'NaN\' WHERE "월 요금" IS NULL')

    streamed = stage.score(size=50)
    found = stage.batch(
        WRITTEN,
        chunk_rows=33,
        source=source and source.format(folder=tmp_path),
        output=output.format(folder=tmp_path),
    )

    answers = expected(release)
    assert set(answers) == {"stays", "leaves"}
    assert (streamed.scored, streamed.rejected) == (len(ROWS), 0)
    values = query(stage.url, "SELECT churn FROM churn_prediction ORDER BY source_id")
    assert [value for (value,) in values] == answers
    assert found.churn.tolist() == answers
    assert found.label.tolist() == [{"stays": "유지", "leaves": "해지"}[one] for one in answers]
    assert [len(one) for one in found.probabilities] == [2] * len(ROWS)
    assert found.notna().all(axis=None)


def test_rows_that_do_not_fit_are_rejected_and_the_others_are_scored(stage):
    for key, (column, value, _) in FAULTS.items():
        quoted = '"' + column.replace('"', '""') + '"'
        query(stage.url, f"UPDATE \"{TABLE}\" SET {quoted} = '{value}' WHERE id = {key}")

    streamed = stage.score(size=50)
    found = stage.batch(chunk_rows=50, output="scores")

    assert (streamed.scored, streamed.rejected) == (len(ROWS) - 4, 4)
    assert len(found) == len(ROWS) - 4
    for table, number in (("scoring_rejects", "source_id"), ("scores_rejects", "row_number")):
        rejects = dict(query(stage.url, f"SELECT {number}, reason FROM {table}"))
        assert rejects.keys() == FAULTS.keys()
        for key, (column, _, fault) in FAULTS.items():
            assert rejects[key].startswith(f"{column}: {fault}")


def test_what_no_file_can_hold_does_not_stop_a_batch(stage, tmp_path):
    query(stage.url, f"UPDATE \"{TABLE}\" SET timestamp = 'infinity' WHERE id < 3")

    found = stage.batch(output=str(tmp_path / "out.parquet"))

    assert found.timestamp.isna().tolist() == [True, True] + [False] * (len(ROWS) - 2)


def test_a_batch_without_one_valid_row_of_text_and_dates_is_rejected_whole(stage):
    query(stage.url, f'UPDATE "{TABLE}" SET "월 요금" = \'-1\'')

    streamed = stage.score()
    found = stage.batch(output="scores")

    assert (streamed.scored, streamed.rejected) == (0, len(ROWS))
    assert found.empty
    for table in ("scoring_rejects", "scores_rejects"):
        reasons = [reason for (reason,) in query(stage.url, f"SELECT reason FROM {table}")]
        assert len(reasons) == len(ROWS)
        assert all(reason.startswith("월 요금: is too small") for reason in reasons)
