"""What the unit tests share: the examples that hypothesis draws, contracts and rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from sklearn.datasets import load_iris

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.release import Release
from tests.releases import HOUSE_CONTRACT, IRIS_CONTRACT, house_release, iris_release

settings.register_profile(
    "unit", max_examples=20, deadline=None, derandomize=True, database=None, print_blob=True
)
settings.load_profile("unit")

SMALL_CONTRACT = Contract.model_validate(
    {
        "name": "small",
        "table": "small_data",
        "features": {
            "width": {"minimum": 0, "maximum": 10},
            "count": {"type": "integer"},
        },
        "target": {
            "column": "kind",
            "response_name": "kind",
            "classes": [{"value": 0, "label": "no"}, {"value": 1, "label": "yes"}],
        },
    }
)

LINE_CONTRACT = Contract.model_validate(
    {
        "name": "line",
        "table": "line_data",
        "features": {"a": {}, "b": {}},
        "target": {"column": "y", "task": "regression", "response_name": "y"},
    }
)


@pytest.fixture(scope="session")
def iris() -> Contract:
    return IRIS_CONTRACT


@pytest.fixture(scope="session")
def houses() -> Contract:
    return HOUSE_CONTRACT


@pytest.fixture(scope="session")
def published() -> Release:
    return iris_release(1)


@pytest.fixture(scope="session")
def regression_release() -> Release:
    return house_release(1)


def iris_rows(with_key: bool = False) -> pd.DataFrame:
    """The whole iris table under the contract's names."""
    features, target = load_iris(return_X_y=True)
    rows = pd.DataFrame(features, columns=list(IRIS_CONTRACT.feature_names))
    rows[IRIS_CONTRACT.target.column] = target
    if with_key:
        rows.insert(0, IRIS_CONTRACT.key, np.arange(1, len(rows) + 1))
    return rows


def line_rows(row_count: int = 120, seed: int = 0) -> pd.DataFrame:
    """Rows of a linear relation with a little noise."""
    random = np.random.default_rng(seed)
    values = random.uniform(-3, 3, (row_count, 2))
    rows = pd.DataFrame(values, columns=list(LINE_CONTRACT.feature_names))
    rows["y"] = values @ [2.0, -1.0] + 5 + random.normal(0, 0.1, row_count)
    return rows


def ingestion_options(**changes: Any) -> IngestionOptions:
    """Options that accept any share of bad rows."""
    return IngestionOptions.model_validate(
        {"source": "test", "maximum_rejected_fraction": 1.0} | changes
    )
