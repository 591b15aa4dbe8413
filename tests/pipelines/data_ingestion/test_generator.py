"""The continuous generator, within this process."""

import threading
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.data_ingestion.generator import stream_batches
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from tests.pipelines.data_ingestion.observations import numbered_observations
from tests.servers import query

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def project_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)


def stream(contract: Contract, stopping: threading.Event | None = None, **plan: Any) -> int:
    rows, ingestion = numbered_observations(contract, 100), IngestionOptions(source="test")
    plan = {"every": timedelta(0), "seed": 1} | plan
    wait = (stopping or threading.Event()).wait
    return stream_batches(rows, contract, ingestion, wait, **plan)


def lengths(url: str) -> "pd.Series[float]":
    rows = query(url, "SELECT sepal_length FROM iris_data ORDER BY id")
    return pd.Series([row[0] for row in rows])


def test_it_stops_after_the_batches_that_were_asked_for(
    database_url: str, contract: Contract
) -> None:
    assert stream(contract, size=50, batches=4) == 200
    counts = "SELECT count(*), sum(row_count), count(DISTINCT source) FROM ingestion_batches"
    assert query(database_url, counts) == [(4, 200, 1)]
    assert len(lengths(database_url)) == 200


def test_it_waits_until_the_next_batch_is_due(contract: Contract) -> None:
    asked: list[float] = []

    def wait(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) == 2

    rows, ingestion = numbered_observations(contract, 100), IngestionOptions(source="test")
    every = timedelta(hours=1)
    written = stream_batches(rows, contract, ingestion, wait, size=3, every=every)

    assert written == 3
    assert asked[0] == 0
    assert 3_000 < asked[1] <= 3_600
