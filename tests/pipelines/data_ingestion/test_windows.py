"""Windows of observations: what is read, and that the same watermark reads the same again."""

from concurrent.futures import ThreadPoolExecutor

import fsspec
import pandas as pd
from pandas.testing import assert_frame_equal
from sqlalchemy import text

from mlops_for_mle.contract.columns import frame_digest
from mlops_for_mle.database.schema import ensure_observations
from mlops_for_mle.errors import UserError
from tests.expectations import refused
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.data_ingestion.observations import lengths, observations, window_of, write
from tests.releases import contract_of
from tests.servers import connection_to, eventually, query, waiting_for_a_lock

INSERT = text("INSERT INTO iris_data VALUES (DEFAULT, now(), :length, 3, 1, 0.2, 0) RETURNING id")


def test_the_same_watermark_gives_the_same_rows_when_more_have_come(database_url, contract):
    write(database_url, contract, lengths(contract, *range(1, 21)))
    before = window_of(database_url, contract, row_limit=10).load()
    query(database_url, "INSERT INTO iris_data VALUES (DEFAULT, now(), 5, 3, 1, 0.2, 0)")

    again = window_of(database_url, contract, watermark=20, row_limit=10).load()
    now = window_of(database_url, contract, row_limit=10).load()

    assert_frame_equal(again, before)
    assert frame_digest(again) == frame_digest(before) != frame_digest(now)


def test_a_window_waits_for_a_slow_writer_whose_row_comes_before_the_newest(database_url, contract):
    with connection_to(database_url) as slow, ThreadPoolExecutor(1) as pool:
        early = slow.scalar(INSERT, {"length": 4.0})
        with connection_to(database_url) as quick:
            late = quick.scalar(INSERT, {"length": 5.0})
            quick.commit()
        assert early < late
        loading = pool.submit(window_of(database_url, contract).load)
        assert eventually(lambda: waiting_for_a_lock(database_url) == 1)
        assert not loading.done()
        slow.commit()
        rows = loading.result(timeout=90)

    assert rows["id"].tolist() == [early, late]
    assert_frame_equal(window_of(database_url, contract, watermark=late).load(), rows)


def test_a_row_of_a_thousand_numbers_fits_its_page(database_url):
    wide = contract_of("wide", {f"f{number}": {} for number in range(1_010)})
    ensure_observations(database_url, wide)

    assert write(database_url, wide, observations(wide, (0.5,) * 1_011)).written == 1


def test_an_empty_table_names_the_pipeline_to_run(database_url, contract):
    first = "iris_data has no rows to train on: run `kedro run --pipeline data_ingestion` first."
    with refused(UserError, first):
        window_of(database_url, contract).load()


def test_a_csv_file_is_trained_on_as_it_would_be_ingested(database_url, contract, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "L;sepal_width;petal_length;petal_width;target;timestamp\n9 cm;1;1;1;1;\n"
        "5,1 cm;3;4;2;0;2026-01-31\n;;;;;\n1;1;1;1;;\n1;1;1;1;-;\n"
    )
    ingestion = {
        "source": "csv",
        "rename": {"L": "sepal_length"},
        "number_formats": {"sepal_length": {"decimal": ",", "unit": " cm"}},
        "missing_marks": {"target": ["-"]},
        "drop_missing_target": True,
    }
    options = {"csv_form": {"separator": "semicolon"}, "ingestion": ingestion, "row_limit": 1}

    window = window_of(database_url, contract, csv_path=str(path), **options).load()

    assert window.attrs["source"] == str(path)
    assert list(window.columns) == [*contract.columns, "timestamp"]
    assert window.drop(columns="timestamp").to_numpy().tolist() == [[5.1, 3, 4, 2, 0]]
    assert window["timestamp"].tolist() == [pd.Timestamp("2026-01-31")], "by which it may be split"


def test_what_is_known_of_a_file_at_a_url_is_not_its_password(database_url, contract):
    url = "memory://me:hunter2@host/rows.csv"
    with fsspec.open(url, "w") as file:
        file.write(f"{','.join(contract.columns)}\n5.1,3,1,1,0")
    window = window_of(database_url, contract, csv_path=url).load()
    assert window.attrs["source"] == "memory://me:***@host/rows.csv"


def test_a_csv_file_that_does_not_fit_is_refused_in_one_sentence(database_url, contract, tmp_path):
    path, header = tmp_path / "rows.csv", ",".join(contract.columns)
    for rows, told in (
        ("5.1,wide,1,1,0", "such as row 1: sepal_width: is no number, found 'wide'"),
        ("5.1,3,1,1,0\n5.1,1,0", "such as row 2: line 3: has 3 field(s), expected 5"),
    ):
        path.write_text(f"{header}\n{rows}")
        with refused(UserError, str(path), told):
            window_of(database_url, contract, csv_path=str(path)).load()


def test_rows_that_another_program_wrote_have_to_fit_the_contract(database_url, contract):
    write(database_url, contract, lengths(contract, *range(1, 10)))
    for key, change, told in (
        (8, "sepal_length = 99", "sepal_length: is too large, found 99.0; allowed is a number"),
        (6, "petal_width = 'NaN'", "petal_width: is missing"),
        (4, "target = 7", "target: is no known category, found 7"),
    ):
        query(database_url, f"UPDATE iris_data SET {change} WHERE id IN ({key}, 9)")
        with refused(UserError, f"row(s) do not fit contract iris, first id {key}: {told}"):
            window_of(database_url, contract).load()


def test_every_type_comes_back_from_the_table_as_it_went_in_as_text(database_url):
    rows = mixed_rows(60).loc[:, list(MIXED_CONTRACT.columns)]
    ensure_observations(database_url, MIXED_CONTRACT)

    as_text = rows.astype("string").fillna("").astype(object)
    assert write(database_url, MIXED_CONTRACT, as_text) == (1, True, 60, 0)
    found = window_of(database_url, MIXED_CONTRACT).load()

    assert_frame_equal(found[list(MIXED_CONTRACT.columns)], rows)
    kinds = "".join(f'pg_typeof("{name}")::text, ' for name in ("월 요금", "is new", "가입일"))
    found_kinds = query(database_url, f'SELECT {kinds} 1 FROM "Churn 데이터" LIMIT 1')
    assert found_kinds == [("numeric", "boolean", "date", 1)]
