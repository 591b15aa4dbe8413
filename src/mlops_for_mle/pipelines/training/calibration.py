"""Probabilities that agree with how often they are right, and the threshold to answer by.

Both are chosen on rows that the model has not seen: in each fold of a cross-validation it answers
the rows that it has not learned from.
"""

from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from mlops_for_mle.contract.model import Target
from mlops_for_mle.pipelines.training.splits import Folds, partition
from mlops_for_mle.releases.metrics import DECIDED_BY_VALUES, measure_one
from mlops_for_mle.releases.predictor import Predictions

# With fewer of them, nearly every answer is the other class.
_FEW = 1 / 3
_THRESHOLDS = 200
_WITH_SCORES = (
    *(GradientBoostingClassifier, HistGradientBoostingClassifier),
    *(LogisticRegression, NuSVC, SVC),
)


class HeldOut(NamedTuple):
    """Answers for rows that were not learned from.

    Attributes:
        truth: Their class codes.
        fold: The fold in which each was answered.
        scores: What a calibration starts from: of two classes one column, the second one's.
        probabilities: None where the model has none.
    """

    truth: npt.NDArray[np.int64]
    fold: npt.NDArray[np.intp]
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64] | None


class _Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose features are its own scores."""

    def fit(self, scores: npt.NDArray[np.float64], truth: npt.NDArray[Any]) -> "_Given":
        self.classes_ = np.unique(truth)
        return self

    def decision_function(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, scores: npt.NDArray[np.float64]) -> NoReturn:
        raise NotImplementedError


def hold_out(
    model: Pipeline, features: pd.DataFrame, truth: npt.NDArray[Any], folds: Folds
) -> HeldOut:
    """Have each fold's rows answered by a model that has not seen them."""
    has_scores = hasattr(model, "decision_function")
    scores, probabilities = [], []
    for learn, judge in folds:
        fitted = clone(model).fit(features.iloc[learn], truth[learn])
        rows = features.iloc[judge]
        if hasattr(model, "predict_proba"):
            probabilities.append(fitted.predict_proba(rows))
        score = fitted.decision_function(rows) if has_scores else probabilities[-1]
        is_of_two = score.ndim == 2 and score.shape[1] == 2
        scores.append(score[:, 1:] if is_of_two else score.reshape(len(rows), -1))
    return HeldOut(
        np.concatenate([truth[judge] for _, judge in folds]),
        np.repeat(np.arange(len(folds)), [len(judge) for _, judge in folds]),
        np.concatenate(scores),
        np.concatenate(probabilities) if probabilities else None,
    )


def is_possible(model: Pipeline, target: Target) -> bool:
    """Whether there is a calibration, and it has a served form.

    scikit-learn's temperature takes only codes that count from zero, and of decision functions
    skl2onnx has these.
    """
    codes, inner = target.class_codes, model.steps[-1][1]
    has_form = hasattr(inner, "predict_proba") and not hasattr(inner, "decision_function")
    has_form = has_form or isinstance(inner, _WITH_SCORES)
    return has_form and (len(codes) == 2 or codes == tuple(range(len(codes))))


def calibrated(held_out: HeldOut, target: Target) -> npt.NDArray[np.float64]:
    """Probabilities of the same rows, each fold's calibrated on the other folds."""
    found = np.empty((len(held_out.truth), len(target.classes)))
    for fold in np.unique(held_out.fold):
        judge = held_out.fold == fold
        given = _Given().fit(held_out.scores, held_out.truth)
        everything = np.arange(int((~judge).sum()))
        calibrator = CalibratedClassifierCV(
            FrozenEstimator(given), method=_method(target), cv=[(everything, everything)]
        )
        calibrator.fit(held_out.scores[~judge], held_out.truth[~judge])
        found[judge] = calibrator.predict_proba(held_out.scores[judge])
    return found


def is_better(held_out: HeldOut, found: npt.NDArray[np.float64], target: Target) -> bool:
    """Whether calibrated probabilities have the smaller Brier score, beyond one standard error."""
    if held_out.probabilities is None:
        return True
    gains = [
        _brier(held_out.probabilities[rows], held_out.truth[rows], target)
        - _brier(found[rows], held_out.truth[rows], target)
        for rows in (held_out.fold == fold for fold in np.unique(held_out.fold))
    ]
    return bool(np.mean(gains) > np.std(gains, ddof=1) / np.sqrt(len(gains)))


def calibrate(
    model: Pipeline, features: pd.DataFrame, truth: npt.NDArray[Any], folds: Folds, target: Target
) -> Pipeline:
    """Fit the model and behind it a calibration on held-out rows.

    That is Platt's sigmoid for two classes and temperature scaling (Guo et al. 2017,
    arXiv:1706.04599) for more, which leaves the most probable class as it is. Isotonic regression
    is none of them: its steps have no form in float32 that answers alike.
    """
    *steps, (name, estimator) = clone(model).steps
    preparation = Pipeline(steps)
    prepared = preparation.fit_transform(features, truth)
    wrapped = CalibratedClassifierCV(
        estimator, method=_method(target), cv=partition(folds, len(truth)), ensemble=False
    )
    wrapped.fit(prepared, truth)
    # The positions of all rows are not part of the model.
    wrapped.set_params(cv=None)
    return Pipeline([*preparation.steps, (name, wrapped)])


def choose_threshold(
    probabilities: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
    target: Target,
    metric: str | None,
) -> float | None:
    """From which probability on the second class is best answered, by a metric of the answers.

    None where the classes are about as frequent, or the metric is none that an answer decides.
    """
    codes = np.array(target.class_codes, np.int64)
    rare = min(np.mean(truth == code) for code in codes)
    if len(codes) != 2 or rare >= _FEW or metric not in DECIDED_BY_VALUES:
        return None
    chances = probabilities[:, 1]
    levels = np.unique(np.quantile(chances, np.linspace(0, 1, _THRESHOLDS + 1)[1:-1]).round(4))
    levels = np.append(levels[(levels > 0) & (levels < 1)], 0.5)

    def quality(level: float) -> tuple[float, float]:
        answers = Predictions(codes[(chances >= level).astype(np.intp)], None)
        # Of those that are equally good, the one nearest to the usual one.
        return measure_one(metric, answers, truth, target), -abs(level - 0.5)

    return float(max(levels.tolist(), key=quality))


def uncalibrated(model: Pipeline) -> Pipeline | None:
    """The model before its calibration, where it was calibrated and had probabilities before."""
    *steps, (name, last) = model.steps
    if not hasattr(last, "calibrated_classifiers_"):
        return None
    before = Pipeline([*steps, (name, last.calibrated_classifiers_[0].estimator)])
    return before if hasattr(before, "predict_proba") else None


def _method(target: Target) -> str:
    return "sigmoid" if len(target.classes) == 2 else "temperature"


def _brier(found: npt.NDArray[np.float64], truth: npt.NDArray[Any], target: Target) -> float:
    return float(brier_score_loss(truth, found, labels=target.class_codes))
