"""The gate as a Kedro pipeline: ``python gate.py``; status 1 where the candidate is refused."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

Document = dict[str, Any]


def measure(model: Document, rows: pd.DataFrame) -> float:
    """The share of right answers of a model."""
    raise NotImplementedError("step 6: the share of rows that the model answers rightly")


def judge(candidate: float, champion: float, rows: pd.DataFrame, gate: Document) -> Document:
    """Decide, with reasons: better than guessing, good enough, and no worse than the champion."""
    raise NotImplementedError("step 6: three comparisons, and the reasons in words")


def main() -> int:
    """Measure both models on the same rows, and judge."""
    catalog = DataCatalog.from_config(yaml.safe_load(Path("catalog.yml").read_text("utf-8")))
    catalog["params:gate"] = yaml.safe_load(Path("parameters.yml").read_text("utf-8"))["gate"]
    # Step 6: two nodes that measure, and one that judges.
    pipeline = Pipeline([node(measure, ["candidate", "rows"], "candidate_accuracy")])
    SequentialRunner().run(pipeline, catalog)
    decision = catalog.load("decision")
    print("accepted" if decision["accepted"] else "; ".join(decision["reasons"]))
    return 0 if decision["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main())
