"""Pure functions of training: a window of rows in, a candidate with its evidence out.

Modules that need scikit-learn, matplotlib or ONNX are imported inside the functions, because every
command imports this module.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_examples, frame_digest, plain_rows
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
from mlops_for_mle.releases import manifest
from mlops_for_mle.releases.explain import Explainer, training_ranges
from mlops_for_mle.releases.manifest import ModelDescription, SnapshotFacts
from mlops_for_mle.releases.metrics import GREATER_IS_BETTER, measure, measure_baseline
from mlops_for_mle.releases.predictor import Predictions, Predictor

_EXAMPLE_ROWS = 5
_BACKGROUND_ROWS = 50

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Rows of a snapshot, as the table has them and as a model takes them."""

    contract: Contract
    facts: SnapshotFacts
    rows: pd.DataFrame
    features: pd.DataFrame
    truth: npt.NDArray[Any]
    split_values: npt.NDArray[Any]
    is_validation: npt.NDArray[np.bool_]

    @property
    def train(self) -> "Examples":
        """The training rows."""
        return self._part(~self.is_validation)

    @property
    def validation(self) -> "Examples":
        """The validation rows."""
        return self._part(self.is_validation)

    def _part(self, chosen: npt.NDArray[np.bool_]) -> "Examples":
        by_row = ("rows", "features", "truth", "split_values", "is_validation")
        return replace(self, **{name: getattr(self, name)[chosen] for name in by_row})


@dataclass(frozen=True)
class Trained:
    """A pipeline that was fitted to the training rows, and its served form.

    Its predictions are those for the validation rows, by names of ``ModelDescription.metrics``: as
    served, and of the models that it is compared with.
    """

    examples: Examples
    training: TrainingOptions
    model: Any
    predictor: Predictor
    parity: manifest.Parity
    parameters: dict[str, Any]
    trials: pd.DataFrame | None
    predictions: dict[str, Predictions]
    is_calibrated: bool


def take_snapshot(window: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Fix the rows of this run; their ``attrs``, with the ``source``, become ``SnapshotFacts``."""
    snapshot = window.copy(deep=False)
    facts = SnapshotFacts(
        source=window.attrs["source"],
        sha256=frame_digest(snapshot),
        watermark=int(snapshot[contract.key].max()) if contract.key in snapshot else None,
        row_count=len(snapshot),
    )
    message = "snapshot of %s: %d rows, watermark=%s, sha256=%s"
    _LOGGER.info(message, facts.source, facts.row_count, facts.watermark, facts.sha256)
    snapshot.attrs = dict(facts)
    return snapshot


def prepare_examples(
    snapshot: pd.DataFrame,
    contract: Contract,
    training: TrainingOptions,
    data_checks: DataCheckOptions | None = None,
) -> tuple[Examples, pd.DataFrame, dict[str, Any]]:
    """Encode the snapshot, once for all that follows, check it and choose the validation rows.

    Beside the examples these are given as the table has them, and what the checks have found.
    """
    from mlops_for_mle.pipelines.training import checks, split

    facts = SnapshotFacts.model_validate(snapshot.attrs)
    features, truth = encode_examples(snapshot, contract)
    quality: dict[str, Any] = {}
    if data_checks is not None:
        quality, problems = checks.check(features, truth, contract, data_checks)
        if problems:
            reasons = "; ".join(problems)
            raise UserError(f"{facts.source} is not fit to train on: {reasons}.")
    values = split.split_values(snapshot, features, contract, training)
    is_validation = split.choose_validation(values, truth, contract.target, training)
    examples = Examples(contract, facts, snapshot, features, truth, values, is_validation)
    return examples, examples.validation.rows, quality


def train_model(
    examples: Examples, training: TrainingOptions, gate_metric: str | None = None
) -> Trained:
    """Choose and search where that is wanted, fit on the training rows, calibrate, and convert.

    A threshold is chosen by ``gate_metric``, unless the options name another one.
    """
    from mlops_for_mle.pipelines.training import calibration, estimators, onnx, split

    training = training.model_copy(update={"metric": training.metric or gate_metric})
    contract, train, seed = examples.contract, examples.train, training.seed
    task, known = contract.target.task, GREATER_IS_BETTER[contract.target.task]
    # Before a training that may take long.
    if gate_metric is not None and gate_metric not in known:
        expected = ", ".join(known)
        raise ConfigurationError(
            f"gates.metric: {gate_metric} does not measure a {task}, expected is one of {expected}"
        )
    estimator, trials, compared = training.estimator, None, {}
    cross_validated, is_calibrated, threshold = None, False, None
    with estimators.threads_for(len(train.features)):
        if estimator.is_auto:
            folds = split.folds(train, training)
            estimator, trials, outputs = estimators.choose_estimator(train, folds, seed)
            cross_validated = folds, outputs
            simplest = estimators.auto_candidates(contract.target.task)[0]
            if estimator != simplest:
                linear = estimators.build_estimator(simplest, contract, seed)
                compared["linear"] = linear.fit(train.features, train.truth)
        if training.search is not None:
            estimator, trials = estimators.search_parameters(train, training, training.search)
        fitted = estimators.build_estimator(estimator, contract, seed)
        model = fitted.fit(train.features, train.truth)
        if contract.target.classes:
            model, is_calibrated, threshold = calibration.calibrate(
                fitted, train, training, cross_validated
            )
            if model is not fitted and hasattr(fitted, "predict_proba"):
                compared["uncalibrated"] = fitted
    predictor, parity = onnx.export(model, examples.features, contract)
    predictor.threshold = threshold
    features = examples.validation.features
    predictions = {"validation": predictor.predict(features.to_numpy())}
    for name, compared_model in compared.items():
        predictions[name] = onnx.pipeline_predictions(compared_model, features)
    extras = estimator.parameters, trials, predictions, is_calibrated
    return Trained(examples, training, model, predictor, parity, *extras)


def evaluate_model(trained: Trained) -> dict[str, float]:
    """Measure the served form on training and validation rows, see ``ModelDescription``."""
    train, validation = trained.examples.train, trained.examples.validation
    target, truth = train.contract.target, validation.truth
    measured = {
        name: measure(predictions, truth, target)
        for name, predictions in trained.predictions.items()
    }
    constant = measure_baseline(truth, target)
    # Without probabilities there is nothing to compare those of a constant answer with.
    measured["baseline"] = {name: constant[name] for name in measured["validation"]}
    training_predictions = trained.predictor.predict(train.features.to_numpy())
    measured["training"] = measure(training_predictions, train.truth, target)
    return {
        f"{group}_{name}": value
        for group, metrics in measured.items()
        for name, value in metrics.items()
    }


def draw_plots(trained: Trained) -> tuple[Any, Any]:
    """Draw the confusion matrix and how reliable probabilities are, or a regression's errors."""
    from mlops_for_mle.pipelines.training import report

    validation, served = trained.examples.validation, trained.predictions["validation"]
    probabilities = {}
    if served.probabilities is not None:
        probabilities["served"] = served.probabilities
    if before := trained.predictions.get("uncalibrated"):
        probabilities["before calibration"] = np.asarray(before.probabilities)
    return report.draw(validation.truth, served.values, probabilities, validation.contract.target)


def assemble_candidate(
    trained: Trained, metrics: dict[str, float], data_quality: dict[str, Any]
) -> tuple[tuple[Trained, ModelDescription], Any]:
    """Describe what is to be logged; with a picture of the importance of its features."""
    from mlops_for_mle.pipelines.training import checks, estimators, report

    examples, predictor = trained.examples, trained.predictor
    contract, validation = examples.contract, examples.validation
    example = validation.features.head(_EXAMPLE_ROWS)
    predictions = predictor.predict(example.to_numpy())
    probabilities = predictions.probabilities
    explanation = _explanation(trained)
    scores: list[Any] = []
    if trained.training.estimator.is_auto and trained.trials is not None:
        scores = trained.trials[[*manifest.EstimatorScore.model_fields]].to_dict("records")
    description = ModelDescription(
        contract=contract,
        estimator=type(estimators.inner_estimator(trained.model)).__name__,
        precision=predictor.precision,
        metrics=metrics,
        snapshot=examples.facts,
        validation_rows=len(validation.rows),
        candidates=tuple(map(manifest.EstimatorScore.model_validate, scores)),
        calibrated=trained.is_calibrated,
        threshold=predictor.threshold,
        remarks=tuple(checks.remarks(trained, metrics, data_quality, explanation["importance"])),
        parity=trained.parity,
        example=manifest.Example(
            rows=plain_rows(validation.rows.head(_EXAMPLE_ROWS), contract),
            predictions=predictions.values.tolist(),
            probabilities=None if probabilities is None else probabilities.tolist(),
        ),
        training=trained.training.model_dump(mode="json"),
        model_sha256=manifest.sha256_of(predictor.model),
        model_bytes=len(predictor.model),
        training_ranges=training_ranges(examples.train.features.to_numpy(), contract),
        **explanation,
    )
    return (trained, description), report.draw_importance(explanation["importance"])


def _explanation(trained: Trained) -> dict[str, Any]:
    """The background rows of explanations, and the importance of each feature."""
    examples, predictor = trained.examples, trained.predictor
    rows = examples.features.to_numpy()
    predictions = predictor.predict(rows)
    order = np.argsort(predictions.values, kind="stable")
    if predictions.probabilities is not None:
        order = np.lexsort([predictions.probabilities.max(axis=1), predictions.values])
    # Evenly spaced among the answers, so that their mean is nearly that of all.
    count = min(_BACKGROUND_ROWS, len(rows))
    chosen = order[(np.arange(count) * len(rows) + len(rows) // 2) // count]
    background = plain_rows(examples.rows.iloc[chosen], examples.contract)
    explained = chosen[:: 1 + len(examples.contract.features) // 100]
    scores = Explainer(predictor, background[::5]).importance(rows[explained])
    return {"background": background, "importance": scores}
