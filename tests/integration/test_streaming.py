"""The continuous generator, within this process."""

import functools
import threading
from datetime import timedelta

import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.data_ingestion.nodes import sort_rows
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.streaming import StreamPlan, stream_batches
from tests.integration.observations import numbered_observations
from tests.integration.servers import query

pytestmark = pytest.mark.integration


def stream(
    url: str, contract: Contract, plan: StreamPlan, stopping: threading.Event | None = None
) -> int:
    options = IngestionOptions(source="stream")
    return stream_batches(
        contract,
        numbered_observations(contract, 100),
        functools.partial(sort_rows, contract=contract, ingestion=options),
        lambda: url,
        plan,
        stopping or threading.Event(),
    )


def lengths(url: str) -> "pd.Series[float]":
    rows = query(url, "SELECT sepal_length FROM iris_data ORDER BY id")
    return pd.Series([row[0] for row in rows])


def test_it_stops_after_the_batches_that_were_asked_for(
    database_url: str, contract: Contract
) -> None:
    plan = StreamPlan(rows=50, every=timedelta(0), batch_limit=4, seed=1)
    assert stream(database_url, contract, plan) == 200
    counts = "SELECT count(*), sum(row_count), count(DISTINCT source) FROM ingestion_batches"
    assert query(database_url, counts) == [(4, 200, 1)]
    assert len(lengths(database_url)) == 200


def test_a_seed_draws_the_same_rows_again_and_writes_them_again(
    database_url: str, contract: Contract
) -> None:
    plan = StreamPlan(rows=10, every=timedelta(0), batch_limit=3, seed=7)
    for _ in range(2):
        stream(database_url, contract, plan)
    found = lengths(database_url)
    assert found[:30].tolist() == found[30:].tolist()
    assert found[:10].tolist() != found[10:20].tolist()


def test_the_rate_is_kept(database_url: str, contract: Contract) -> None:
    plan = StreamPlan(rows=1, every=timedelta(milliseconds=200), batch_limit=4, seed=1)
    stream(database_url, contract, plan)
    ((took,),) = query(
        database_url, "SELECT max(created_at) - min(created_at) FROM ingestion_batches"
    )
    assert took >= timedelta(milliseconds=550)


def test_a_stream_that_is_told_to_stop_before_it_begins_writes_nothing(
    database_url: str, contract: Contract
) -> None:
    stopping = threading.Event()
    stopping.set()
    plan = StreamPlan(rows=1, every=timedelta(0), batch_limit=None, seed=1)
    assert stream(database_url, contract, plan, stopping) == 0
    assert len(lengths(database_url)) == 0
