"""A model, and three measures of how good its answers are, by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from data import FEATURES, TARGET

Codes = npt.NDArray[Any]


def fit(rows: pd.DataFrame) -> Pipeline:
    """Scale and classify; scaler and classifier learn from these rows only."""
    model = Pipeline([("scaler", StandardScaler()), ("classifier", SVC())])
    return model.fit(rows[FEATURES].to_numpy(), rows[TARGET].to_numpy())


def accuracy(truth: Codes, answers: Codes) -> float:
    """The share of answers that are right."""
    return float(np.mean(truth == answers))


def balanced_accuracy(truth: Codes, answers: Codes) -> float:
    """The mean, over the classes of the truth, of the share of their rows that was found."""
    return float(np.mean([np.mean(answers[truth == one] == one) for one in np.unique(truth)]))


def macro_f1(truth: Codes, answers: Codes) -> float:
    """The mean of F1 over all classes of truth and answers; 0 for one that is never right."""
    scores = []
    for one in np.union1d(truth, answers):
        right = np.sum((truth == one) & (answers == one))
        # Precision and recall have the same numerator, so their harmonic mean is this.
        scores.append(2 * right / (np.sum(truth == one) + np.sum(answers == one)))
    return float(np.mean(scores))


def measure(model: Pipeline, rows: pd.DataFrame) -> dict[str, float]:
    """All three measures of a model's answers to rows."""
    truth = rows[TARGET].to_numpy()
    answers = model.predict(rows[FEATURES].to_numpy())
    measures = (accuracy, balanced_accuracy, macro_f1)
    return {one.__name__: round(float(one(truth, answers)), 4) for one in measures}
