"""Predicts the rows that are older than the queue, as a Kedro pipeline: ``python kedro_backfill.py``."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pandas as pd
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from answers import Predicted, Refused, Row, ask
from database import database_url


def score_rows(
    rows: pd.DataFrame, predict: Callable[[Row], Predicted | Refused], at_most: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make rows of ``predictions`` and of ``dead_letters``; what predicts is an input, as a model."""
    raise NotImplementedError("step 8: predict each row, sort_answers, two data frames")


def main() -> None:
    """Run the one node on what the catalog names."""
    settings = yaml.safe_load(Path("catalog.yml").read_text("utf-8"))
    parameters = yaml.safe_load(Path("parameters.yml").read_text("utf-8"))
    # SQLAlchemy, which the datasets use, wants the driver's name in the URL, too.
    url = database_url().replace("postgresql://", "postgresql+psycopg2://", 1)
    catalog = DataCatalog.from_config(settings, {"database": {"con": url}})
    catalog["params:at_most"] = parameters["at_most"]
    api_url = os.environ.get("API_URL", "http://localhost:8000")
    with httpx.Client(base_url=api_url, timeout=5) as client:
        # Not copied for the node, as other values are: a connection cannot be.
        catalog["prediction_api"] = MemoryDataset(partial(ask, client), copy_mode="assign")
        inputs = ["unanswered_rows", "prediction_api", "params:at_most"]
        scoring = node(score_rows, inputs, ["predictions", "dead_letters"])
        SequentialRunner().run(Pipeline([scoring]), catalog)


if __name__ == "__main__":
    main()
