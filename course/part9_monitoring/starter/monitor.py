"""Judges the predictions of each day, and says what to do: ``python monitor.py``."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml

from measures import accuracy, calibration, calibration_error, drift, join_labels
from retraining import FEATURES, retrain

# The parameter `limits` of parameters.yml, which explains each of them.
Limits = dict[str, Any]


def judge(
    training: pd.DataFrame, window: pd.DataFrame, labels: pd.DataFrame, limits: Limits
) -> dict[str, float]:
    """Measure one window; what cannot be known, or not yet, is NaN."""
    raise NotImplementedError("step 5: join, then measure what there is enough of")


def judge_days(
    training: pd.DataFrame, predictions: pd.DataFrame, labels: pd.DataFrame, limits: Limits
) -> pd.DataFrame:
    """Judge each day from the first to the last, also those without a prediction."""
    raise NotImplementedError("step 5: judge() for each day of the range")


def decide(findings: pd.DataFrame, limits: Limits) -> dict[str, Any]:
    """What to do (``action``), why (``reason``), and since which day it is bad (``since``).

    The action is ``retrain``, ``investigate`` or ``none``, ``since`` then None. A measure counts when it was bad on so
    many of the newest days on which it could be judged.
    """
    raise NotImplementedError("step 6: of the newest judged days, how many are bad?")


def main() -> None:
    """Judge what the newest model has answered, and replace it if it should be and can be."""
    limits = yaml.safe_load(Path("parameters.yml").read_text("utf-8"))["limits"]
    tables = ("training.csv", "predictions.csv", "labels.csv")
    training, predictions, labels = (pd.read_csv(name) for name in tables)
    version = max(int(path.stem) for path in Path("models").glob("*.joblib"))
    predictions = predictions[predictions["model"] == version]
    findings = judge_days(training, predictions, labels, limits)
    print(findings.round(2).to_string(index=False))
    joined, decision = join_labels(predictions, labels), decide(findings, limits)
    print(f"Model {version}: {joined.pending} predictions wait for their label.")
    print(f"{decision['action']}: {decision['reason']}")
    if decision["action"] == "retrain":
        raise NotImplementedError("step 7: retrain() on the rows since then; dump a new winner")


if __name__ == "__main__":
    main()
