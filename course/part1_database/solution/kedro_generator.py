"""The generator as a Kedro pipeline: ``python kedro_generator.py``."""

from pathlib import Path

import pandas as pd
import yaml
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from database import database_url


def draw_rows(flowers: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Draw rows with replacement; knows neither a file nor a database."""
    return flowers.sample(rows, replace=True).assign(source="kedro")


def main() -> None:
    """Run the one node on what the catalog names."""
    settings = yaml.safe_load(Path("catalog.yml").read_text("utf-8"))
    parameters = yaml.safe_load(Path("parameters.yml").read_text("utf-8"))
    # SQLAlchemy, which the dataset uses, wants the driver's name in the URL, too.
    url = database_url().replace("postgresql://", "postgresql+psycopg2://", 1)
    catalog = DataCatalog.from_config(settings, {"database": {"con": url}})
    catalog["params:rows"] = parameters["rows"]
    pipeline = Pipeline([node(draw_rows, ["flowers", "params:rows"], "iris_data")])
    SequentialRunner().run(pipeline, catalog)


if __name__ == "__main__":
    main()
