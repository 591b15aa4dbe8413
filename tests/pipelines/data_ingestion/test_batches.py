"""Batches are written whole, once, and in order, whatever else happens."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import prepare
from mlops_for_mle.errors import UserError, error_message
from mlops_for_mle.pipelines.data_ingestion.datasets import WriteResult
from tests.pipelines.data_ingestion.observations import (
    GOOD_ROW,
    batch_of,
    lengths,
    observations,
    window_of,
    write,
)
from tests.servers import connection_to, eventually, query, scalar, waiting_for_a_lock

ALL = "SELECT sepal_length, target FROM iris_data ORDER BY id"
REJECTS = "SELECT row_number, reason FROM rejected_rows ORDER BY row_number"
LEDGER = "SELECT row_count, rejected_count FROM ingestion_batches ORDER BY id"
COUNTS = """
SELECT (SELECT count(DISTINCT sepal_length) FROM iris_data), (SELECT count(*) FROM iris_data),
       (SELECT count(*) FROM rejected_rows), (SELECT count(*) FROM ingestion_batches)
"""
END_WHO_WAITS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def corrected(contract: Contract, maximum: float = 50.0, minimum: float = 0.1) -> Contract:
    """The contract with another range of sepal_length."""
    raw: dict[str, Any] = contract.model_dump(mode="json")
    raw["features"]["sepal_length"] |= {"minimum": minimum, "maximum": maximum}
    return Contract.model_validate(raw)


def test_what_several_write_at_once_is_there_once_and_so_is_what_a_correction_lets_in(
    database_url, contract
):
    rows = lengths(contract, *(20 + number / 100 for number in range(2_000)))
    together = threading.Barrier(4)

    def write_at_once(contract: Contract) -> list[WriteResult]:
        def write_one(_: int) -> WriteResult:
            together.wait()
            return write(database_url, contract, rows)

        with ThreadPoolExecutor(4) as pool:
            return sorted(pool.map(write_one, range(4)), key=lambda one: one.written)

    # Whose number of the sequence it is may be that of any of them.
    receipts = write_at_once(contract)
    (batch_id,) = {one.batch_id for one in receipts}
    repeated = (batch_id, False, 0, 999)
    assert receipts == [repeated, repeated, repeated, (batch_id, True, 1_001, 999)]
    assert query(database_url, COUNTS) == [(1_001, 1_001, 999, 1)]
    assert [one.written for one in write_at_once(corrected(contract))] == [0, 0, 0, 999]
    assert query(database_url, COUNTS) == [(2_000, 2_000, 0, 1)]
    assert query(database_url, LEDGER) == [(2_000, 0)]


def lose_the_connection(url: str, contract: Contract, rows: pd.DataFrame) -> None:
    """Write a batch, and cut the connection while it waits to write the rejects."""
    with connection_to(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(text("LOCK TABLE rejected_rows IN SHARE MODE"))
        writing = pool.submit(write, url, contract, rows)
        assert eventually(lambda: waiting_for_a_lock(url) == 1)
        query(url, END_WHO_WAITS)
        error = writing.exception(timeout=90)
        other.rollback()
    assert isinstance(error, OperationalError)
    assert error_message(error).startswith(
        "OperationalError: server closed the connection unexpectedly"
    )


def test_a_connection_that_is_lost_in_the_middle_leaves_nothing_and_says_so(
    database_url, contract, caplog
):
    rows, wider = lengths(contract, 5.0, 31.0, 99.0), corrected(contract)

    lose_the_connection(database_url, contract, rows)

    assert query(database_url, COUNTS) == [(0, 0, 0, 0)]
    assert write(database_url, contract, rows).is_new
    before = query(database_url, REJECTS)

    lose_the_connection(database_url, wider, rows)

    assert (query(database_url, REJECTS), query(database_url, LEDGER)) == (before, [(1, 2)])
    assert write(database_url, wider, rows).written == 1
    assert query(database_url, ALL) == [(5.0, 0), (31.0, 0)]
    assert not caplog.records


@pytest.fixture(params=["timestamp", "timestamptz"])
def seoul(request, external_url, contract) -> str:
    """A server of somebody else's in Korea, whose table may have a time zone."""
    prepare(external_url, contract)
    name = make_url(external_url).database
    query(external_url, f"ALTER DATABASE {name} SET timezone TO 'Asia/Seoul'")
    query(external_url, f"ALTER TABLE iris_data ALTER COLUMN timestamp TYPE {request.param}")
    if request.param == "timestamptz":
        query(external_url, "ALTER TABLE iris_data ALTER COLUMN timestamp SET DEFAULT now()")
    engine_for(external_url).dispose()
    return external_url


def test_times_are_utc_whatever_the_zone_of_the_server(seoul, contract):
    """Of the source, of the clock where it has none, and of the column's default."""
    assert scalar(seoul, "SHOW timezone") == "Asia/Seoul"
    with_time = observations(contract, GOOD_ROW, GOOD_ROW, GOOD_ROW).assign(
        timestamp=["2024-05-01T10:00:00+09:00", "2024-05-01 10:00:00", ""]
    )
    write(seoul, contract, with_time)
    write(seoul, contract, observations(contract, GOOD_ROW))
    names = ", ".join(contract.columns)
    query(seoul, f"INSERT INTO iris_data ({names}) VALUES (5, 3, 1, 1, 0)")

    times = window_of(seoul, contract).load()["timestamp"].tolist()

    assert times[:2] == [pd.Timestamp("2024-05-01 01:00"), pd.Timestamp("2024-05-01 10:00")]
    now = pd.Timestamp(datetime.now(UTC).replace(tzinfo=None))
    assert len(times) == 5
    assert all(abs(time - now) < timedelta(minutes=1) for time in times[2:])


def test_a_replay_under_a_corrected_contract_lets_in_exactly_the_rows_that_now_fit(
    database_url, contract, caplog
):
    rows = lengths(contract, 31.0, 5.1, 60.0, 7.3, 99.0)
    first = write(database_url, contract, rows)
    # It refuses a row that was accepted, which stays.
    moved, wider = corrected(contract, minimum=7), corrected(contract, maximum=70)

    assert write(database_url, moved, rows) == (first.batch_id, False, 1, 2)
    window_of(database_url, moved).save(batch_of(moved, rows))
    assert "2 row(s) rejected; see table rejected_rows" in caplog.text, "not by this contract"
    assert write(database_url, wider, rows) == (first.batch_id, False, 1, 1)

    assert query(database_url, LEDGER) == [(4, 1)]
    assert query(database_url, ALL) == [(5.1, 0), (7.3, 0), (31.0, 0), (60.0, 0)]
    assert query(database_url, REJECTS) == [
        (5, "sepal_length: is too large, found 99.0; allowed is a number from 0.1 to 70")
    ]


def test_a_batch_that_is_read_as_other_rows_than_before_is_refused(database_url, contract):
    """Its rows would be taken for one another: some would be lost, others there twice."""
    rows, shorter = lengths(contract, 31.0, 5.0), lengths(contract, 5.0)
    rows.attrs["sha256"] = shorter.attrs["sha256"] = "of one file"
    write(database_url, contract, rows)

    with pytest.raises(UserError, match="ingested before as 2 rows and is read as 1 now"):
        write(database_url, contract, shorter)

    assert (query(database_url, ALL), query(database_url, LEDGER)) == ([(5.0, 0)], [(1, 1)])


def test_numbers_that_begin_again_are_told_after_a_move_by_logical_replication(
    database_url, contract
):
    write(database_url, contract, lengths(contract, 5.0))
    query(database_url, "ALTER SEQUENCE ingestion_batches_id_seq RESTART")

    with pytest.raises(IntegrityError, match="ingestion_batches_pkey"):
        write(database_url, contract, lengths(contract, 6.0))


def test_a_batch_is_not_written_again_where_its_table_was_renamed(database_url, contract):
    rows = lengths(contract, 5.0)
    write(database_url, contract, rows)
    query(database_url, "UPDATE ingestion_batches SET table_name = 'iris_before'")

    write(database_url, contract, lengths(contract, 6.0))
    with pytest.raises(UserError, match="batch 1 of table iris_before, which is not there any"):
        write(database_url, contract, rows)

    query(database_url, "UPDATE ingestion_batches SET table_name = 'iris_data'")
    assert write(database_url, contract, rows).written == 0
    assert scalar(database_url, "SELECT count(*) FROM iris_data") == 2

    # Another table in the place of a dropped one takes all of its batches.
    query(database_url, "UPDATE ingestion_batches SET table_name = 'iris_before'")
    query(database_url, "DELETE FROM iris_data")
    for centimetres in (5.0, 6.0):
        assert write(database_url, contract, lengths(contract, centimetres)).written == 1
