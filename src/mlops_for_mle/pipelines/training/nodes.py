"""Pure functions of training: a window of rows in, a candidate with its evidence out.

Each step passes its input on with something added, so a later process can begin with any of the
files that are kept. Modules that need scikit-learn, matplotlib or ONNX are imported inside the
functions, because every command imports this module.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, frame_digest, plain_rows
from mlops_for_mle.contract.encoding import encode_target, encoded_columns
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
from mlops_for_mle.releases import manifest
from mlops_for_mle.releases.explain import Explainer, training_ranges
from mlops_for_mle.releases.manifest import ModelDescription, SnapshotFacts
from mlops_for_mle.releases.metrics import GREATER_IS_BETTER, measure, measure_baseline
from mlops_for_mle.releases.predictor import Predictions, Predictor, decided

_EXAMPLE_ROWS = 5
_BACKGROUND_ROWS = 50

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Rows as a model takes them.

    Attributes:
        truth: The target of each row: class codes or numbers.
        split_values: What each row is split by, see ``split``.
    """

    contract: Contract
    features: pd.DataFrame
    truth: npt.NDArray[Any]
    split_values: npt.NDArray[Any]


@dataclass(frozen=True)
class Examples(Part):
    """All rows of a snapshot, also as the table has them."""

    facts: SnapshotFacts
    rows: pd.DataFrame
    is_validation: npt.NDArray[np.bool_]

    @property
    def learned(self) -> Part:
        """The training rows: those that are not held back."""
        return self._part(~self.is_validation)

    @property
    def held_back(self) -> Part:
        """The validation rows."""
        return self._part(self.is_validation)

    def _part(self, chosen: npt.NDArray[np.bool_]) -> Part:
        values = self.split_values[chosen]
        return Part(self.contract, self.features[chosen], self.truth[chosen], values)


@dataclass(frozen=True)
class Trained:
    """A pipeline that was fitted to the examples that are not held back, and its served form.

    Attributes:
        parameters: Of its estimator, as they were configured, found or chosen.
        trials: What a search or ``auto`` has tried, with its scores.
        linear: The fitted linear candidate of ``auto``, where another one was chosen.
        uncalibrated: The model before its calibration, if that had probabilities.
    """

    examples: Examples
    training: TrainingOptions
    model: Any
    parameters: dict[str, Any]
    predictor: Predictor
    parity: manifest.Parity
    trials: pd.DataFrame | None
    linear: Any
    uncalibrated: Any
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
    gate_metric: str | None = None,
) -> tuple[Examples, pd.DataFrame, dict[str, Any]]:
    """Encode the snapshot, once for all that follows, check it and choose the validation rows.

    Returns:
        The examples; the validation rows as the table has them, for people; and what the checks of
        the snapshot have found.
    """
    from mlops_for_mle.pipelines.training import checks, split

    facts, target = SnapshotFacts.model_validate(snapshot.attrs), contract.target
    metrics = GREATER_IS_BETTER[target.task]
    if gate_metric is not None and gate_metric not in metrics:
        raise ConfigurationError(
            f"gates.metric: {gate_metric} does not measure a {target.task}, expected is one of "
            f"{', '.join(metrics)}"
        )
    names = [column.name for column in encoded_columns(contract)]
    features = pd.DataFrame(encode_rows(snapshot, contract), columns=names)
    truth = encode_target(snapshot[target.column].to_numpy(), target)
    quality: dict[str, Any] = {}
    if data_checks is not None:
        quality, problems = checks.check(features, truth, contract, data_checks)
        if problems:
            raise UserError(
                f"{facts.source} is not fit to train on: {'; '.join(problems)}. Nothing was "
                "trained."
            )
    values = split.split_values(snapshot, features, contract, training)
    is_validation = split.hold_back(values, truth, target, training)
    examples = Examples(contract, features, truth, values, facts, snapshot, is_validation)
    return examples, snapshot[is_validation], quality


def train_model(
    examples: Examples, training: TrainingOptions, gate_metric: str | None = None
) -> Trained:
    """Choose and search where that is wanted, fit on the training rows, calibrate, and convert.

    A threshold is chosen by ``gate_metric``, unless the options name another one.
    """
    from mlops_for_mle.pipelines.training import calibration, estimators, onnx, split

    training = training.model_copy(update={"metric": training.metric or gate_metric})
    contract, learned, seed = examples.contract, examples.learned, training.seed
    estimator, parameters = training.estimator, dict(training.estimator.parameters)
    trials, linear, uncalibrated, judged_by = None, None, None, None
    is_calibrated, threshold = False, None
    with estimators.threads_for(len(learned.features)):
        if estimator.is_auto:
            folds = split.folds(learned, training)
            estimator, trials, outputs = estimators.choose_estimator(learned, folds, seed)
            judged_by = None if outputs is None else (folds, outputs)
            parameters = dict(estimator.parameters)
            simplest = estimators.auto_candidates(contract.target.task)[0]
            if estimator != simplest:
                linear = estimators.build_estimator(simplest, contract, seed)
                linear.fit(learned.features, learned.truth)
        model = estimators.build_estimator(estimator, contract, seed)
        if training.search is not None:
            folds = split.folds(learned, training, training.search.folds)
            best, trials = estimators.search_parameters(
                model, learned, training.search, folds, seed
            )
            estimators.inner_estimator(model).set_params(**best)
            parameters |= best
        model.fit(learned.features, learned.truth)
        if contract.target.classes:
            fitted = model
            model, is_calibrated, threshold = calibration.decide(
                fitted, learned, training, judged_by
            )
            if model is not fitted and hasattr(fitted, "predict_proba"):
                uncalibrated = fitted
    predictor, parity = onnx.export(model, examples.features, contract)
    predictor.threshold = threshold
    extras = trials, linear, uncalibrated, is_calibrated
    return Trained(examples, training, model, parameters, predictor, parity, *extras)


def evaluate_model(trained: Trained) -> dict[str, float]:
    """Measure the served form on training and validation rows, see ``ModelDescription``."""
    learned, held_back = trained.examples.learned, trained.examples.held_back
    target, truth = learned.contract.target, held_back.truth
    predictions = _validation_predictions(trained, held_back)
    measured = {name: measure(predictions[name], truth, target) for name in predictions}
    constant = measure_baseline(truth, target)
    # Without probabilities there is nothing to compare those of a constant answer with.
    measured["baseline"] = {name: constant[name] for name in measured["validation"]}
    training_predictions = trained.predictor.predict(learned.features.to_numpy())
    measured["training"] = measure(training_predictions, learned.truth, target)
    return {
        f"{group}_{name}": value
        for group, metrics in measured.items()
        for name, value in metrics.items()
    }


def draw_plots(trained: Trained) -> tuple[Any, Any]:
    """Draw the confusion matrix and the scores by class (for regression, their counterparts)."""
    from mlops_for_mle.pipelines.training import report

    held_back = trained.examples.held_back
    predictions = _validation_predictions(trained, held_back)
    by_title = {"served": predictions["validation"]}
    if "uncalibrated" in predictions:
        by_title["before calibration"] = predictions["uncalibrated"]
    return report.draw(held_back.truth, by_title, held_back.contract.target)


def _validation_predictions(trained: Trained, held_back: Part) -> dict[str, Predictions]:
    """Predictions for the validation rows: as served, and by the models that it grew from."""
    from mlops_for_mle.pipelines.training.onnx import trained_answers

    predictions = {"validation": trained.predictor.predict(held_back.features.to_numpy())}
    for name in ("linear", "uncalibrated"):
        if (model := getattr(trained, name)) is not None:
            predictions[name] = trained_answers(model, held_back.features)
    return predictions


def assemble_candidate(
    trained: Trained, metrics: dict[str, float], data_quality: dict[str, Any]
) -> tuple[tuple[Trained, ModelDescription], Any]:
    """Describe what is to be logged; with a picture of the importance of its features."""
    from mlops_for_mle.pipelines.training import checks, estimators, report
    from mlops_for_mle.pipelines.training.onnx import trained_answers

    examples, predictor = trained.examples, trained.predictor
    contract, validation_rows = examples.contract, examples.rows[examples.is_validation]
    example = examples.held_back.features.head(_EXAMPLE_ROWS)
    predictions = decided(trained_answers(trained.model, example), contract, predictor.threshold)
    probabilities = predictions.probabilities
    background, importance = _background_and_importance(trained)
    candidates = []
    if trained.training.estimator.is_auto and trained.trials is not None:
        for name, errors in trained.trials.set_index("estimator").iterrows():
            statistics = {"error": errors.mean(), "standard_error": errors.sem()}
            candidates.append(manifest.EstimatorScore(estimator=str(name), **statistics))
    description = ModelDescription(
        contract=contract,
        estimator=type(estimators.inner_estimator(trained.model)).__name__,
        precision=predictor.precision,
        metrics=metrics,
        snapshot=examples.facts,
        validation_rows=len(validation_rows),
        candidates=tuple(candidates),
        calibrated=trained.is_calibrated,
        threshold=predictor.threshold,
        remarks=tuple(checks.remarks(trained, metrics, data_quality, importance)),
        parity=trained.parity,
        example=manifest.Example(
            rows=plain_rows(validation_rows.head(_EXAMPLE_ROWS), contract),
            predictions=predictions.values.tolist(),
            probabilities=None if probabilities is None else probabilities.tolist(),
        ),
        training=trained.training.model_dump(mode="json"),
        model_sha256=manifest.sha256_of(predictor.model),
        model_bytes=len(predictor.model),
        importance=importance,
        training_ranges=training_ranges(examples.learned.features.to_numpy(), contract),
        background=background,
    )
    return (trained, description), report.draw_importance(importance)


def _background_and_importance(trained: Trained) -> tuple[Any, dict[str, float]]:
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
    return background, Explainer(predictor, background[::5]).importance(rows[chosen])
