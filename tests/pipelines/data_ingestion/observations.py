"""Observations for tests: rows, batches of them, and their table."""

from typing import Any

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.data_ingestion.datasets import (
    ObservationDataset,
    WriteResult,
    write_batch,
)
from mlops_for_mle.pipelines.data_ingestion.nodes import (
    Batch,
    IngestionOptions,
    to_contract,
    validate,
)

GOOD_ROW = (5.1, 3.5, 1.4, 0.2, 0)


def observations(contract: Contract, *rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows under the contract's column names."""
    return pd.DataFrame(rows, columns=list(contract.columns))


def lengths(contract: Contract, *values: float) -> pd.DataFrame:
    """Rows that are good but for their sepal length, which may be 30 at most."""
    return observations(contract, *((value, *GOOD_ROW[1:]) for value in values))


def batch_of(
    contract: Contract,
    rows: pd.DataFrame,
    source: str = "test",
    tolerated: float = 1.0,
    **options: Any,
) -> Batch:
    """The batch that ingestion makes of some rows."""
    ingestion = IngestionOptions(source=source, maximum_rejected_fraction=tolerated, **options)
    return validate(*to_contract(rows, contract, ingestion), contract, ingestion)


def write(url: str, contract: Contract, rows: pd.DataFrame, **options: Any) -> WriteResult:
    """Ingest some rows."""
    return write_batch(engine_for(url), contract, batch_of(contract, rows, **options))


def window_of(url: str, contract: Contract, **options: Any) -> ObservationDataset:
    """The catalog's entry for the table."""
    raw = contract.model_dump(mode="json")
    return ObservationDataset(contract=raw, credentials={"con": url}, **options)
