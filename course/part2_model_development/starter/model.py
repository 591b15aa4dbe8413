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
    raise NotImplementedError("step 4: a Pipeline of `scaler` and `classifier`, fitted")


def accuracy(truth: Codes, answers: Codes) -> float:
    """The share of answers that are right."""
    raise NotImplementedError("step 5: accuracy")


def balanced_accuracy(truth: Codes, answers: Codes) -> float:
    """The mean, over the classes of the truth, of the share of their rows that was found."""
    raise NotImplementedError("step 5: balanced accuracy")


def macro_f1(truth: Codes, answers: Codes) -> float:
    """The mean of F1 over all classes of truth and answers; 0 for one that is never right."""
    raise NotImplementedError("step 5: macro F1")


def measure(model: Pipeline, rows: pd.DataFrame) -> dict[str, float]:
    """All three measures of a model's answers to rows."""
    truth = rows[TARGET].to_numpy()
    answers = model.predict(rows[FEATURES].to_numpy())
    measures = (accuracy, balanced_accuracy, macro_f1)
    return {one.__name__: round(float(one(truth, answers)), 4) for one in measures}
