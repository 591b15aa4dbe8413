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
    known = join_labels(window, labels).rows
    found = dict.fromkeys(("drift", "accuracy", "calibration"), np.nan)
    if len(window) >= limits["rows"]:
        samples = [(training[name].to_numpy(), window[name].to_numpy()) for name in FEATURES]
        found["drift"] = max(drift(*pair, limits["bins"]) for pair in samples)
        if len(known) >= limits["labelled"] * len(window):
            found["accuracy"] = accuracy(known)
            found["calibration"] = calibration_error(calibration(known, limits["bins"]))
    return {"rows": len(window), "labelled": len(known), **found}


def judge_days(
    training: pd.DataFrame, predictions: pd.DataFrame, labels: pd.DataFrame, limits: Limits
) -> pd.DataFrame:
    """Judge each day from the first to the last, also those without a prediction."""
    days = predictions["day"]
    findings = [
        {"day": day, **judge(training, predictions[days == day], labels, limits)}
        for day in (range(days.min(), days.max() + 1) if len(days) else ())
    ]
    columns = ["day", "rows", "labelled", "drift", "accuracy", "calibration"]
    return pd.DataFrame(findings, columns=columns)


def decide(findings: pd.DataFrame, limits: Limits) -> dict[str, Any]:
    """What to do (``action``), why (``reason``), and since which day it is bad (``since``).

    The action is ``retrain``, ``investigate`` or ``none``, ``since`` then None. A measure counts when it was bad on so
    many of the newest days on which it could be judged.
    """
    reasons = []
    # An accuracy is bad below its limit, drift above.
    for measure, sign, action in (("accuracy", -1, "retrain"), ("drift", 1, "investigate")):
        newest = findings.dropna(subset=measure).tail(limits["windows"])
        bad = newest[sign * newest[measure] > sign * limits[measure]]["day"].tolist()
        reasons.append(f"{measure} was bad on {len(bad)} of the last {len(newest)} days judged")
        if len(bad) >= limits["alarms"]:
            return {"action": action, "reason": reasons[-1], "since": int(bad[0])}
    return {"action": "none", "reason": ", ".join(reasons), "since": None}


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
        champion = joblib.load(f"models/{version}.joblib")
        rows = joined.rows[joined.rows["day"] >= decision["since"]]
        winner, verdict = retrain(champion, rows, limits["rows"])
        print(verdict)
        if winner is not champion:
            joblib.dump(winner, f"models/{version + 1}.joblib")


if __name__ == "__main__":
    main()
