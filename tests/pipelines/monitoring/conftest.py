"""A small MLflow store for the tests that need a run."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest


@pytest.fixture(scope="session")
def _mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def mlflow_store(_mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store that this test's runs go to."""
    before = mlflow.get_tracking_uri()
    # MLflow sets the variable too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", _mlflow_uri)
    mlflow.set_tracking_uri(_mlflow_uri)
    yield
    mlflow.set_tracking_uri(before)
