"""A batch that is read again under a corrected contract gives the rows that now fit, once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import text

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.data_ingestion.datasets import write_batch
from tests.pipelines.data_ingestion.observations import (
    GOOD_ROW,
    batch_of,
    end_who_waits_for_a_lock,
    observations,
)
from tests.servers import connection_to, eventually, query, waiting_for_a_lock

pytestmark = pytest.mark.integration

ALL = "SELECT sepal_length, target FROM iris_data ORDER BY id"
REJECTS = "SELECT row_number, reason FROM rejected_rows ORDER BY row_number"
LEDGER = "SELECT row_count, rejected_count FROM ingestion_batches ORDER BY id"


def corrected(
    contract: Contract, maximum: float = 30.0, minimum: float = 0.1, classes: int = 3
) -> Contract:
    """The contract with another range of sepal_length and more classes."""
    raw: dict[str, Any] = contract.model_dump(mode="json")
    raw["features"]["sepal_length"] |= {"minimum": minimum, "maximum": maximum}
    raw["target"]["classes"] += [
        {"value": value, "label": f"class {value}"} for value in range(3, classes)
    ]
    return Contract.model_validate(raw)


def lengths(contract: Contract, *values: float) -> pd.DataFrame:
    return observations(contract, *((value, *GOOD_ROW[1:]) for value in values))


def test_a_replay_under_a_corrected_contract_lets_in_exactly_the_rows_that_now_fit(
    database_url: str, contract: Contract
) -> None:
    rows = observations(
        contract,
        (31.0, 3.5, 1.4, 0.2, 0),
        (5.1, 3.5, 1.4, 0.2, 1),
        (5.2, 3.5, 1.4, 0.2, 3),
        (33.0, 3.5, 99.0, 0.2, 2),
        (7.3, 3.5, 1.4, 0.2, 2),
        (99.0, 3.5, 1.4, 0.2, 2),
    )
    engine = engine_for(database_url)
    first = write_batch(engine, contract, batch_of(contract, rows))
    # It refuses a row that was accepted, which stays.
    moved = corrected(contract, minimum=7, maximum=50, classes=4)

    receipt = write_batch(engine, moved, batch_of(moved, rows))

    assert receipt == (first.batch_id, False, 1, 3)
    wider = corrected(contract, maximum=50, classes=4)
    assert write_batch(engine, wider, batch_of(wider, rows)) == (first.batch_id, False, 1, 2)
    assert query(database_url, LEDGER) == [(4, 2)]
    assert query(database_url, ALL) == [(5.1, 1), (7.3, 2), (31.0, 0), (5.2, 3)]
    assert query(database_url, REJECTS) == [
        (4, "petal_length: is too large, found 99; allowed is a number from 0.1 to 30"),
        (6, "sepal_length: is too large, found 99; allowed is a number from 0.1 to 50"),
    ]


def test_a_batch_that_was_held_back_is_let_in_and_its_bad_rows_say_why_they_are_not(
    database_url: str, contract: Contract
) -> None:
    rows = lengths(contract, 5.0, 31.0, 32.0, 99.0, 6.0)
    engine = engine_for(database_url)
    write_batch(engine, contract, batch_of(contract, rows, tolerated=0.5))
    assert query(database_url, LEDGER) == [(0, 5)]

    wider = corrected(contract, maximum=40, minimum=5.5)
    assert write_batch(engine, wider, batch_of(wider, rows, tolerated=0.3)).written == 0
    assert write_batch(engine, wider, batch_of(wider, rows, tolerated=0.5)).written == 3

    assert query(database_url, LEDGER) == [(3, 2)]
    assert query(database_url, ALL) == [(31.0, 0), (32.0, 0), (6.0, 0)]
    assert query(database_url, REJECTS) == [
        (1, "sepal_length: is too small, found 5; allowed is a number from 5.5 to 40"),
        (4, "sepal_length: is too large, found 99; allowed is a number from 5.5 to 40"),
    ]


def test_several_replays_at_once_let_each_row_in_once(
    database_url: str, contract: Contract
) -> None:
    rows = lengths(contract, *(20 + number / 100 for number in range(2_000)))
    engine = engine_for(database_url)
    write_batch(engine, contract, batch_of(contract, rows))
    wider = corrected(contract, maximum=50)
    batch = batch_of(wider, rows)
    together = threading.Barrier(4)

    def write(_: int) -> int:
        together.wait()
        return write_batch(engine, wider, batch).written

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(write, range(4)))

    assert sorted(outcomes) == [0, 0, 0, 999]
    assert query(database_url, "SELECT count(*), count(DISTINCT sepal_length) FROM iris_data") == [
        (2_000, 2_000)
    ]
    assert query(database_url, LEDGER) == [(2_000, 0)]


def test_a_replay_that_is_cut_in_the_middle_changes_nothing_and_can_be_repeated(
    database_url: str, contract: Contract
) -> None:
    rows = lengths(contract, 5.0, 31.0, 99.0)
    engine = engine_for(database_url)
    write_batch(engine, contract, batch_of(contract, rows))
    before = query(database_url, REJECTS)
    wider = corrected(contract, maximum=50)
    batch = batch_of(wider, rows)
    with connection_to(database_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(text("LOCK TABLE iris_data IN SHARE MODE"))
        writing = pool.submit(write_batch, engine, wider, batch)
        assert eventually(lambda: waiting_for_a_lock(database_url) == 1)
        end_who_waits_for_a_lock(database_url)
        assert writing.exception(timeout=20) is not None
        other.rollback()
    assert query(database_url, REJECTS) == before
    assert query(database_url, LEDGER) == [(1, 2)]

    assert write_batch(engine, wider, batch).written == 1
    assert query(database_url, ALL) == [(5.0, 0), (31.0, 0)]


def test_a_batch_that_is_read_as_other_rows_than_before_is_refused(
    database_url: str, contract: Contract
) -> None:
    """Its rows would be taken for one another: some would be lost, others there twice."""
    engine = engine_for(database_url)
    batch = batch_of(contract, lengths(contract, 31.0, 5.0))
    write_batch(engine, contract, batch)
    shorter = batch_of(contract, lengths(contract, 5.0))

    with pytest.raises(UserError, match="ingested before as 2 rows and is read as 1 now"):
        write_batch(engine, contract, replace(shorter, content_sha256=batch.content_sha256))

    assert query(database_url, ALL) == [(5.0, 0)]
    assert query(database_url, LEDGER) == [(1, 1)]
