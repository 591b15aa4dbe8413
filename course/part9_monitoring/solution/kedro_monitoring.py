"""The monitoring as a Kedro pipeline: ``python kedro_monitoring.py``."""

from pathlib import Path

import yaml
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from monitor import decide, judge_days


def create_pipeline() -> Pipeline:
    """Judge, then decide: functions that were there before."""
    tables = ["training", "predictions", "labels", "params:limits"]
    return Pipeline(
        [
            node(judge_days, tables, "findings"),
            node(decide, ["findings", "params:limits"], "decision"),
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
