"""MLflow's store on the server of the tests, for those that need a run."""

from collections.abc import Iterator

import mlflow
import pytest

from mlops_for_mle.database.schema import mlflow_store_url


@pytest.fixture
def mlflow_store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store that this test's runs go to."""
    before, uri = mlflow.get_tracking_uri(), mlflow_store_url(database_url)
    # MLflow sets the variable too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield
    mlflow.set_tracking_uri(before)
