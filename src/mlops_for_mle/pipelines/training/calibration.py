"""Probabilities that agree with how often they are right, and the threshold to answer by.

Both are chosen by what a cross-validation answers to rows that it has not learned from.
"""

import logging

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from scipy.stats import sem
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.contract.model import Target
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training import split
from mlops_for_mle.pipelines.training.estimators import out_of_fold
from mlops_for_mle.pipelines.training.nodes import Examples
from mlops_for_mle.pipelines.training.options import TrainingOptions
from mlops_for_mle.releases.metrics import LABEL_METRICS, measure_one
from mlops_for_mle.releases.predictor import Predictions

# With a smaller share of the rarer class, nearly every answer is the other class.
_RARE = 1 / 3
# Of each class.
_QUANTILES = 100
# As scikit-learn's temperature scaling has it.
_MIN_PROBABILITY = 1e-12
# Of estimators that have a decision function, skl2onnx and onnxmltools know those of these.
_WITH_SCORES = (
    *("GradientBoostingClassifier", "HistGradientBoostingClassifier", "LGBMClassifier"),
    *("LogisticRegression", "NuSVC", "SVC"),
)

_LOGGER = logging.getLogger(__name__)

Indices = npt.NDArray[np.intp]


def calibrate(
    model: Pipeline,
    train: Examples,
    training: TrainingOptions,
    cross_validated: tuple[split.Folds, list[Matrix]] | None = None,
) -> tuple[Pipeline, bool, float | None]:
    """Calibrate a fitted model and choose its threshold, as far as these are wanted and possible.

    ``cross_validated`` are folds and their ``out_of_fold`` outputs, where these are known already.
    Whether the model is calibrated is meant as in ``ModelDescription``.
    """
    target, has_probabilities = train.contract.target, hasattr(model, "predict_proba")
    name, has_scores = type(model[-1]).__name__, hasattr(model[-1], "decision_function")
    is_calibrated = training.calibrate == "auto" and (name in _WITH_SCORES or not has_scores)
    threshold = training.threshold if len(target.classes) == 2 else None
    probabilities: Matrix | None = None
    if is_calibrated or (has_probabilities and threshold == "auto"):
        try:
            if cross_validated is None:
                folds = split.folds(train, training)
                cross_validated = folds, out_of_fold(model, train, folds)
            outputs: Matrix = np.concatenate(cross_validated[1], dtype=np.float64)
            # When rows are split by time, no fold judges the oldest.
            truth = np.concatenate([train.truth[test] for _, test in cross_validated[0]])
            classes, labels = np.unique(truth, return_inverse=True)
            if len(classes) < len(target.classes):
                raise UserError(
                    "rows of every class stand in too few folds to learn how often one is right"
                )
            probabilities = outputs if has_probabilities else None
            if is_calibrated:
                calibrated, better = _calibrated(model, _scores(model, outputs), labels)
                if probabilities is None or _improves(better, probabilities, labels):
                    model, probabilities = calibrated, better
        except (UserError, ValueError) as error:
            is_calibrated = False
            _LOGGER.warning("probabilities are left as they are: %s", error)
    if threshold == "auto":
        threshold = None
        if probabilities is not None:
            threshold = choose_threshold(probabilities, truth, target, training.metric)
    return model, is_calibrated, threshold if hasattr(model, "predict_proba") else None


def choose_threshold(
    probabilities: Matrix, truth: npt.NDArray[np.int64], target: Target, metric: str | None
) -> float | None:
    """From which probability on the second class is best answered, by a metric of the answers.

    None where the classes are about equally frequent, or the metric needs probabilities.
    """
    codes = np.array(target.class_codes, np.int64)
    rare = min(np.mean(truth == code) for code in codes)
    if rare >= _RARE or metric not in LABEL_METRICS:
        return None
    second = probabilities[:, 1]
    shares = np.linspace(0, 1, _QUANTILES + 1)[1:-1]
    # The rarer class may be fewer rows than lie between two quantiles of all.
    quantiles = [np.quantile(second[truth == code], shares) for code in codes]
    thresholds: set[float] = {0.5, *np.concatenate(quantiles).round(6).tolist()} - {0.0, 1.0}

    def quality(threshold: float) -> tuple[float, float]:
        predictions = Predictions(codes[(second >= threshold).astype(np.intp)], None)
        # Of those that are equally good, the one nearest to the usual 0.5.
        return measure_one(metric, predictions, truth, target), -abs(threshold - 0.5)

    return max(thresholds, key=quality)


def _scores(model: Pipeline, outputs: Matrix) -> Matrix:
    """What scikit-learn calibrates from: a decision function, else probabilities.

    One column of two classes, and logarithms of more. A decision function follows from the
    probabilities that are made of it.
    """
    if not hasattr(model, "predict_proba"):
        return outputs.reshape(len(outputs), -1)
    if outputs.shape[1] > 2:
        return np.log(outputs + _MIN_PROBABILITY)
    if hasattr(model, "decision_function"):
        return np.asarray(logit(outputs[:, 1:].clip(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)))
    return outputs[:, 1:]


def _calibrated(model: Pipeline, scores: Matrix, labels: Indices) -> tuple[Pipeline, Matrix]:
    """The fitted model with a calibration behind it, and what that makes of out-of-fold scores.

    It is learned from these and the index of each row's class: Platt's sigmoid for two classes and
    temperature scaling (Guo et al. 2017, arXiv:1706.04599) for more, which leaves the most probable
    class as it is. Isotonic regression is not used: its steps have no form in float32 that answers
    alike.
    """
    estimator, count = model[-1], int(labels.max()) + 1
    # A classifier whose features are its own scores.
    identity, width = LogisticRegression(), scores.shape[1]
    identity.classes_ = np.arange(count)
    identity.coef_, identity.intercept_ = np.eye(width), np.zeros(width)
    method = "sigmoid" if count == 2 else "temperature"
    calibrator = CalibratedClassifierCV(FrozenEstimator(identity), method=method, cv=KFold(2))
    probabilities = calibrator.fit(scores, labels).predict_proba(scores)
    (fitted,) = calibrator.calibrated_classifiers_
    if count == 2 and fitted.calibrators[0].a_ >= 0:
        # Such a sigmoid answers with the other class.
        raise ValueError("out of fold, rows of the second class have no higher scores")
    fitted.estimator = estimator
    # scikit-learn's temperature takes only classes that count from zero.
    fitted.classes = calibrator.classes_ = estimator.classes_
    calibrator.set_params(estimator=estimator, cv=None, ensemble=False)
    return Pipeline([*model.steps[:-1], (model.steps[-1][0], calibrator)]), probabilities


def _improves(calibrated: Matrix, original: Matrix, labels: Indices) -> bool:
    """Whether calibrated probabilities have the smaller Brier score, beyond one standard error."""
    truth = np.eye(original.shape[1])[labels]
    gains = ((original - truth) ** 2 - (calibrated - truth) ** 2).sum(axis=1)
    return bool(gains.mean() > sem(gains))
