"""The training as a Kedro pipeline: ``python kedro_training.py``."""

from pathlib import Path

import yaml
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from data import hash_split
from model import fit, measure


def create_pipeline() -> Pipeline:
    """Split, fit, measure: each a function that was there before."""
    return Pipeline(
        [
            node(hash_split, ["rows", "params:validation_fraction"], ["training", "validation"]),
            node(fit, "training", "model"),
            node(measure, ["model", "validation"], "metrics"),
        ]
    )


def main() -> None:
    """Run the pipeline on what the catalog names."""
    catalog = DataCatalog.from_config(yaml.safe_load(Path("catalog.yml").read_text("utf-8")))
    for name, value in yaml.safe_load(Path("parameters.yml").read_text("utf-8")).items():
        catalog[f"params:{name}"] = value
    SequentialRunner().run(create_pipeline(), catalog)


if __name__ == "__main__":
    main()
