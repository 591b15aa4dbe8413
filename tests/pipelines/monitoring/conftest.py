"""A database that the tests of a module share."""

import pytest

from tests.servers import query


@pytest.fixture
def database_url(module_database_url) -> str:
    """One database for the tests of a module, each of which finds its tables empty."""
    tables = "feedback, predictions, monitoring_metrics, monitoring_runs, retraining_decisions"
    query(module_database_url, f"TRUNCATE {tables} RESTART IDENTITY")
    return module_database_url
