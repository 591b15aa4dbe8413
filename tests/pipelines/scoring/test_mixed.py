"""Rows with every type of column: streamed and in batches, the same predictions and rejects."""

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.pipelines.scoring.following import install
from mlops_for_mle.releases.predictor import load_predictor
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.scoring.stage import staged
from tests.releases import changed, mixed_release
from tests.servers import connection_to, query

# Names that have to be quoted, of whatever a contract names.
RAW = MIXED_CONTRACT.model_dump() | {"key": "Key's", "timestamp": "when 100 %"}
CONTRACT = Contract.model_validate(RAW | {"target": RAW["target"] | {"response_name": "Is it %s?"}})
TABLE = CONTRACT.table
ROWS = mixed_rows(120, seed=5)[list(CONTRACT.columns)]
FAULTS = {
    10: ("가입일", "0044-03-15 BC", "is no date"),
    20: ("last seen", "-infinity", "is no time"),
    30: ('the "plan"', "gold", "is no known category"),
    40: ("월 요금", "1e400", "is not finite"),
}
# How a file was written that the rows once came from; nothing here is.
WRITTEN = {
    "number_formats": {"월 요금": {"decimal": ",", "thousands": "."}},
    "date_formats": dict.fromkeys(("가입일", "last seen"), "%d.%m.%Y"),
}


@pytest.fixture(scope="module")
def release():
    return changed(mixed_release(1), contract=CONTRACT)


@pytest.fixture
def stage(module_database_url, release_store, release, monkeypatch):
    """All rows wait in the table."""
    stage = staged(module_database_url, CONTRACT, release_store, monkeypatch, release)
    install(CONTRACT)
    with connection_to(stage.url) as connection:
        ROWS.to_sql(TABLE, connection, if_exists="append", index=False)
        connection.commit()
    return stage


def test_all_ways_give_the_same_predictions_and_reject_the_same_rows(stage, release, tmp_path):
    for key, (column, value, _) in FAULTS.items():
        quoted = '"' + column.replace('"', '""') + '"'
        query(stage.url, f'UPDATE "{TABLE}" SET {quoted} = \'{value}\' WHERE "Key\'s" = {key}')
    good = ROWS.drop(index=[key - 1 for key in FAULTS])
    good.to_parquet(tmp_path / "rows.parquet")

    query(stage.url, f'UPDATE "{TABLE}" SET "월 요금" = \'NaN\' WHERE "월 요금" IS NULL')

    streamed = stage.score(size=50)
    into_table = stage.batch(WRITTEN, chunk_rows=33, output="scores")
    into_files = stage.batch(WRITTEN, chunk_rows=33, output=str(tmp_path / "out.parquet"))
    of_file = stage.batch(
        WRITTEN, source=str(tmp_path / "rows.parquet"), output=str(tmp_path / "2.parquet")
    )

    codes = load_predictor(release).predict(encode_rows(good, CONTRACT)).values.tolist()
    answers = [CONTRACT.target.values[code] for code in codes]
    assert set(answers) == {"stays", "leaves"}
    assert (streamed.scored, streamed.rejected, stage.waiting()) == (len(good), len(FAULTS), 0)
    values = query(stage.url, 'SELECT "Is it %s?" FROM churn_prediction ORDER BY source_id')
    assert [value for (value,) in values] == answers
    for found in (into_table, into_files, of_file):
        assert found["Is it %s?"].tolist() == answers
        assert found.label.tolist() == [{"stays": "유지", "leaves": "해지"}[one] for one in answers]
        assert [len(one) for one in found.probabilities] == [2] * len(good)
    for table, number in (("scoring_rejects", "source_id"), ("scores_rejects", "row_number")):
        rejects = dict(query(stage.url, f"SELECT {number}, reason FROM {table}"))
        assert rejects.keys() == FAULTS.keys()
        for key, (column, _, fault) in FAULTS.items():
            assert rejects[key].startswith(f"{column}: {fault}")
    facts = query(stage.url, "SELECT DISTINCT contract, source, model_version, release "
                  "FROM scoring_rejects")  # fmt: skip
    assert facts == [("churn", TABLE, 1, release.manifest.release)]


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
