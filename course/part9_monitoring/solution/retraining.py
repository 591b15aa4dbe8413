"""A new model, which replaces the old one only if it is better on the same newest rows."""

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ["temperature", "vibration"]


def fit(rows: pd.DataFrame) -> Pipeline:
    """A model of ``fails``, made in the same way for champion and candidate."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(rows[FEATURES].to_numpy(), rows["fails"].to_numpy())


def part_by_age(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The older three fifths of rows, to learn from, and the newest, to compare on."""
    ordered = rows.sort_values("day", kind="stable")
    cut = len(ordered) * 3 // 5
    return ordered.iloc[:cut], ordered.iloc[cut:]


def retrain(champion: Pipeline, rows: pd.DataFrame, minimum_rows: int) -> tuple[Pipeline, str]:
    """The better of the champion and a model of these rows, and a sentence that says why.

    The candidate has to be better on rows that neither has learned from. Where that cannot be
    found out, the champion stays.
    """
    older, newest = part_by_age(rows)
    if len(newest) < minimum_rows:
        return champion, f"kept: only {len(newest)} newest rows to compare on"
    for part, purpose in ((older, "learn from"), (newest, "compare on")):
        if part["fails"].nunique() < 2:
            return champion, f"kept: the {len(part)} rows to {purpose} are all of one class"
    candidate = fit(older)
    features, truth = newest[FEATURES].to_numpy(), newest["fails"].to_numpy()
    old, new = champion.score(features, truth), candidate.score(features, truth)
    told = f"accuracy {new:.2f} against {old:.2f} on the same newest {len(newest)} rows"
    if new > old:
        return candidate, f"promoted: {told}"
    return champion, f"kept: {told}"
