"""Windows of a contract's table for tests."""

from typing import Any

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.data_ingestion.datasets import ObservationDataset


def window_of(url: str, contract: Contract, **options: Any) -> ObservationDataset:
    return ObservationDataset(contract.model_dump(mode="json"), {"con": url}, **options)
