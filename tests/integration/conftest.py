"""What all tests with real parts share."""

import warnings

import pytest


@pytest.fixture(scope="session", autouse=True)
def quiet_import() -> None:
    """MLflow warns of a class of kedro-mlflow in the test that happens to import it first."""
    with warnings.catch_warnings(record=True):
        import kedro_mlflow.mlflow  # noqa: F401
