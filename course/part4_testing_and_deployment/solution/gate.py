"""The gate as a Kedro pipeline: ``python gate.py``; status 1 where the candidate is refused."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from releases import Model

Document = dict[str, Any]


def measure(model: Document, rows: pd.DataFrame) -> float:
    """The share of right answers of a model."""
    known = Model({int(code): (*flower,) for code, flower in model["centroids"].items()})
    *_, target = rows.columns
    flowers = rows.drop(columns=target).itertuples(index=False, name=None)
    right = [
        known.predict(flower) == code for flower, code in zip(flowers, rows[target], strict=True)
    ]
    return float(sum(right) / len(right))


def judge(candidate: float, champion: float, rows: pd.DataFrame, gate: Document) -> Document:
    """Decide, with reasons: better than guessing, good enough, and no worse than the champion."""
    guessing = float(rows.iloc[:, -1].value_counts(normalize=True).max())
    reasons = []
    if candidate <= guessing:
        reasons.append(f"accuracy {candidate:.4f} is no better than guessing, {guessing:.4f}")
    if candidate < gate["minimum"]:
        reasons.append(f"accuracy {candidate:.4f} misses the minimum {gate['minimum']:.4f}")
    if candidate < champion - gate["tolerance"]:
        reasons.append(f"accuracy {candidate:.4f} is worse than the champion's {champion:.4f}")
    return {"accepted": not reasons, "reasons": reasons, "accuracy": candidate}


def main() -> int:
    """Measure both models on the same rows, and judge."""
    catalog = DataCatalog.from_config(yaml.safe_load(Path("catalog.yml").read_text("utf-8")))
    catalog["params:gate"] = yaml.safe_load(Path("parameters.yml").read_text("utf-8"))["gate"]
    pipeline = Pipeline(
        [
            node(measure, ["candidate", "rows"], "candidate_accuracy", name="candidate"),
            node(measure, ["champion", "rows"], "champion_accuracy", name="champion"),
            node(
                judge,
                ["candidate_accuracy", "champion_accuracy", "rows", "params:gate"],
                "decision",
            ),
        ]
    )
    SequentialRunner().run(pipeline, catalog)
    decision = catalog.load("decision")
    print("accepted" if decision["accepted"] else "; ".join(decision["reasons"]))
    return 0 if decision["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main())
