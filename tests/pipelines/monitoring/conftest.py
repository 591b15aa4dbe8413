"""A database that the tests of a module share, and MLflow's store for those that need a run."""

from collections.abc import Iterator

import mlflow
import pytest

from mlops_for_mle.database.schema import mlflow_store_url
from tests.servers import query


@pytest.fixture
def database_url(module_database_url) -> str:
    """One database for the tests of a module, each of which finds its tables empty."""
    tables = "feedback, predictions, monitoring_metrics, monitoring_runs, retraining_decisions"
    query(module_database_url, f"TRUNCATE {tables} RESTART IDENTITY")
    return module_database_url


@pytest.fixture
def mlflow_store(database_url, monkeypatch) -> Iterator[None]:
    """The store that this test's runs go to."""
    before, uri = mlflow.get_tracking_uri(), mlflow_store_url(database_url)
    # MLflow sets the variable too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield
    mlflow.set_tracking_uri(before)
