"""The contract's table, for tests."""

from typing import Any

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.data_ingestion.datasets import ObservationDataset
from tests.servers import query


def window_of(url: str, contract: Contract, **options: Any) -> ObservationDataset:
    """The catalog's entry for the table."""
    return ObservationDataset(contract.model_dump(mode="json"), {"con": url}, **options)


def end_who_waits_for_a_lock(url: str) -> None:
    """Cut the connections of the database that wait."""
    query(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
