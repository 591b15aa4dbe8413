"""Probabilities that agree with how often they are right, and the threshold to answer by.

Both are chosen by what a cross-validation answers to rows that it has not learned from.
"""

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.contract.model import Target
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import split
from mlops_for_mle.pipelines.training.estimators import held_out
from mlops_for_mle.pipelines.training.nodes import Part
from mlops_for_mle.pipelines.training.options import TrainingOptions
from mlops_for_mle.releases.metrics import DECIDED_BY_VALUES, measure_one
from mlops_for_mle.releases.predictor import Predictions

# With fewer of them, nearly every answer is the other class.
_FEW = 1 / 3
_THRESHOLDS = 200
# As scikit-learn's temperature scaling has it.
_LEAST = 1e-12
# skl2onnx has the decision functions of these.
_BOOSTING = (GradientBoostingClassifier, HistGradientBoostingClassifier)
_WITH_SCORES = (*_BOOSTING, LogisticRegression, NuSVC, SVC)
# This one, too; it is of an extra.
_LIGHTGBM = "LGBMClassifier"

_LOGGER = logging.getLogger(__name__)

Places = npt.NDArray[np.intp]


def decide(
    model: Pipeline,
    learned: Part,
    training: TrainingOptions,
    judged_by: tuple[split.Folds, Matrix] | None = None,
) -> tuple[Pipeline, bool, float | None]:
    """Calibrate a fitted model and choose its threshold, as far as these are wanted and possible.

    ``judged_by`` are folds and what is ``held_out`` of them, where that is known already.

    Returns:
        The model, whether it is calibrated, and the threshold; see ``ModelDescription``.
    """
    target, has_chances = learned.contract.target, hasattr(model, "predict_proba")
    is_calibrated = bool(training.calibrate) and _has_form(model[-1])
    if training.calibrate is True and not is_calibrated:
        raise UserError(
            f"training.calibrate: {type(model[-1]).__name__} has no calibration that can be "
            "served: choose auto or false, or another estimator."
        )
    threshold = training.threshold if len(target.classes) == 2 else None
    chances: Matrix | None = None
    if is_calibrated or (has_chances and threshold == "auto"):
        try:
            folds = judged_by[0] if judged_by else split.folds(learned, training)
            found = judged_by[1] if judged_by else held_out(model, learned, folds)
            # By time, the oldest rows are judged by none: only what came later could.
            rows, fold = split.judged(folds)
            truth = learned.truth[rows]
            known, places = np.unique(truth, return_inverse=True)
            if len(known) < len(target.classes):
                raise UserError(
                    "training.split: rows of every class stand in too few folds to learn how often "
                    "a probability is right: ingest more, or set training.calibrate to false."
                )
            chances = found if has_chances else None
            if is_calibrated:
                scores = _scores(model, found)
                calibrator = _calibrator(len(known), scores.shape[1])
                # Each fold's on the other folds.
                better = cross_val_predict(
                    calibrator, scores, places, cv=PredefinedSplit(fold), method="predict_proba"
                )
                if training.calibrate is True or _is_better(better, chances, places, fold):
                    model, chances = _with_calibration(model, calibrator, scores, places), better
        except (UserError, ValueError) as error:
            if training.calibrate is True:
                raise
            is_calibrated = False
            _LOGGER.warning("probabilities are left as they are: %s", error)
    if threshold == "auto":
        metric = training.metric
        threshold = None if chances is None else choose_threshold(chances, truth, target, metric)
    return model, is_calibrated, threshold if hasattr(model, "predict_proba") else None


def choose_threshold(
    chances: Matrix, truth: npt.NDArray[np.int64], target: Target, metric: str | None
) -> float | None:
    """From which probability on the second class is best answered, by a metric of the answers.

    None where the classes are about as frequent, or the metric is none that an answer decides.
    """
    codes = np.array(target.class_codes, np.int64)
    rare = min(np.mean(truth == code) for code in codes)
    if rare >= _FEW or metric not in DECIDED_BY_VALUES:
        return None
    second = chances[:, 1]
    levels = np.unique(np.quantile(second, np.linspace(0, 1, _THRESHOLDS + 1)[1:-1]).round(4))
    levels = np.append(levels[(levels > 0) & (levels < 1)], 0.5)

    def quality(level: float) -> tuple[float, float]:
        answers = Predictions(codes[(second >= level).astype(np.intp)], None)
        # Of those that are equally good, the one nearest to the usual one.
        return measure_one(metric, answers, truth, target), -abs(level - 0.5)

    return float(max(levels.tolist(), key=quality))


def _has_form(estimator: object) -> bool:
    """Whether its calibration has a served form, which begins with its decision function if any."""
    has_scores = isinstance(estimator, _WITH_SCORES) or type(estimator).__name__ == _LIGHTGBM
    return has_scores or not hasattr(estimator, "decision_function")


def _scores(model: Pipeline, found: Matrix) -> Matrix:
    """What scikit-learn calibrates from: a decision function, else probabilities.

    One column of two classes, and logarithms of more. A decision function follows from the
    probabilities that are made of it.
    """
    if not hasattr(model, "predict_proba"):
        return found.reshape(len(found), -1)
    if found.shape[1] > 2:
        return np.log(found + _LEAST)
    if hasattr(model, "decision_function"):
        return (np.log(found + _LEAST) @ [[-1.0], [1.0]]).astype(np.float64)
    return found[:, 1:]


def _calibrator(class_count: int, width: int) -> CalibratedClassifierCV:
    """What learns to make probabilities of scores, from the places of the classes.

    That is Platt's sigmoid for two classes and temperature scaling (Guo et al. 2017,
    arXiv:1706.04599) for more, which leaves the most probable class as it is. Isotonic regression
    is none of them: its steps have no form in float32 that answers alike.
    """
    # A classifier whose features are its own scores.
    given = LogisticRegression()
    given.classes_ = np.arange(class_count)
    given.coef_, given.intercept_ = np.eye(width), np.zeros(width)
    method = "sigmoid" if class_count == 2 else "temperature"
    return CalibratedClassifierCV(FrozenEstimator(given), method=method, cv=KFold(2))


def _is_better(better: Matrix, chances: Matrix | None, places: Places, fold: Places) -> bool:
    """Whether calibrated probabilities have the smaller Brier score, beyond one standard error."""
    if chances is None:
        return True
    happened = np.eye(chances.shape[1])[places]
    before, after = (((one - happened) ** 2).sum(axis=1) for one in (chances, better))
    mean, error = pd.Series(before - after).groupby(fold).mean().agg(["mean", "sem"])
    return bool(mean > error)


def _with_calibration(
    model: Pipeline, calibrator: CalibratedClassifierCV, scores: Matrix, places: Places
) -> Pipeline:
    """The fitted model, and behind it a calibration that is fitted to held-out scores."""
    estimator = model[-1]
    (fitted,) = calibrator.fit(scores, places).calibrated_classifiers_
    fitted.estimator = estimator
    # scikit-learn's temperature takes only classes that count from zero.
    fitted.classes = calibrator.classes_ = estimator.classes_
    calibrator.set_params(estimator=estimator, cv=None, ensemble=False)
    return Pipeline([*model.steps[:-1], (model.steps[-1][0], calibrator)])
