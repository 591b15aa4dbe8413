"""The same function scores a file, as a Kedro pipeline: ``python kedro_scoring.py``."""

import os
from pathlib import Path

import pandas as pd
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from champion import FEATURES, Champion, load, predict


def score(rows: pd.DataFrame, champion: Champion, rows_at_once: int) -> pd.DataFrame:
    """Give the rows with a column ``species`` and a column ``version``."""
    values = rows[list(FEATURES)].itertuples(index=False)
    records = [dict(zip(FEATURES, row, strict=True)) for row in values]
    species: list[str] = []
    for start in range(0, len(records), rows_at_once):
        species += predict(champion, records[start : start + rows_at_once])
    return rows.assign(species=species, version=champion.version)


def main() -> None:
    """Run the one node on what the catalog names."""
    catalog = DataCatalog.from_config(yaml.safe_load(Path("catalog.yml").read_text("utf-8")))
    parameters = yaml.safe_load(Path("parameters.yml").read_text("utf-8"))
    catalog["params:rows_at_once"] = parameters["rows_at_once"]
    champion = load(Path(os.environ.get("MODELS", "models"), "champion"))
    # A loaded model cannot be copied, so that it is handed over as it is.
    catalog["champion"] = MemoryDataset(champion, copy_mode="assign")
    inputs = ["flowers", "champion", "params:rows_at_once"]
    SequentialRunner().run(Pipeline([node(score, inputs, "scored")]), catalog)


if __name__ == "__main__":
    main()
