"""Pure functions of training: a window of rows in, a candidate with its evidence out.

Each step hands on what the one before it gave and adds something, so a later process can begin
with any of the files that are kept. What imports scikit-learn, matplotlib or ONNX is imported
inside the functions, because every command imports this module.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract, Target
from mlops_for_mle.contract.columns import encode_rows, frame_digest, plain_rows
from mlops_for_mle.contract.encoding import encode_target, encoded_columns
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
from mlops_for_mle.releases.explain import Explainer
from mlops_for_mle.releases.manifest import (
    EstimatorScore,
    Example,
    ModelDescription,
    Parity,
    SnapshotFacts,
    sha256_of,
)
from mlops_for_mle.releases.metrics import baseline, measure
from mlops_for_mle.releases.predictor import Predictions, Predictor, decided
from mlops_for_mle.releases.ranges import training_ranges

EXAMPLE_ROWS = 5
BACKGROUND_ROWS = 50

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """The rows of a snapshot as the table has them and, encoded, as a model takes them.

    Attributes:
        truth: What is to be answered for each row: class codes or numbers.
        is_validation: Which rows are held back.
        split_values: What each row was split by, see ``splits``.
    """

    contract: Contract
    facts: SnapshotFacts
    rows: pd.DataFrame
    features: pd.DataFrame
    truth: npt.NDArray[Any]
    is_validation: npt.NDArray[np.bool_]
    split_values: npt.NDArray[Any]

    @property
    def target(self) -> Target:
        """What is to be answered."""
        return self.contract.target

    @property
    def learned(self) -> "Examples":
        """Those that are not held back."""
        return self._taken(~self.is_validation)

    @property
    def held_back(self) -> "Examples":
        """Those that are."""
        return self._taken(self.is_validation)

    def _taken(self, chosen: npt.NDArray[np.bool_]) -> "Examples":
        names = ("rows", "features", "truth", "split_values", "is_validation")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


@dataclass(frozen=True)
class Trained:
    """A pipeline that was fitted to the examples that are not held back, and its served form.

    Attributes:
        parameters: Of its estimator, as they were configured, found or chosen.
        parity: How the served form compared with the pipeline.
        trials: What a search or ``auto`` has tried, with its scores.
        linear: Of what ``auto`` has chosen from, fitted, where another one was chosen.
        is_calibrated: See ``ModelDescription``.
    """

    examples: Examples
    training: TrainingOptions
    model: Any
    parameters: dict[str, Any]
    predictor: Predictor
    parity: Parity
    trials: pd.DataFrame | None = None
    linear: Any = None
    is_calibrated: bool = False


def take_snapshot(window: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Fix the rows of this run; their ``attrs``, with the ``source``, become ``SnapshotFacts``."""
    snapshot = window.copy(deep=False)
    facts = SnapshotFacts(
        source=window.attrs["source"],
        sha256=frame_digest(snapshot),
        watermark=int(snapshot[contract.key].max()) if contract.key in snapshot else None,
        row_count=len(snapshot),
    )
    said = "snapshot of %s: %d rows, watermark=%s, sha256=%s"
    _LOGGER.info(said, facts.source, facts.row_count, facts.watermark, facts.sha256)
    snapshot.attrs = dict(facts)
    return snapshot


def prepare_examples(
    snapshot: pd.DataFrame,
    contract: Contract,
    training: TrainingOptions,
    data_checks: DataCheckOptions | None = None,
) -> tuple[Examples, pd.DataFrame, dict[str, Any]]:
    """Encode the snapshot, once for all that follows, check it and choose the validation rows.

    Returns:
        The examples; the validation rows as the table has them, for people; and what was found of
        the fitness of the snapshot.
    """
    from mlops_for_mle.pipelines.training import checks, splits

    facts, target = SnapshotFacts.model_validate(snapshot.attrs), contract.target
    names = [column.name for column in encoded_columns(contract)]
    features = pd.DataFrame(encode_rows(snapshot, contract), columns=names)
    truth, found = encode_target(snapshot[target.column].to_numpy(), target), dict[str, Any]()
    if data_checks is not None:
        found, problems = checks.check(features, truth, contract, data_checks)
        if problems:
            raise UserError(
                f"{facts.source} is not fit to train on: {'; '.join(problems)}. Nothing was "
                "trained."
            )
    values = splits.split_values(snapshot, features, contract, training)
    is_validation = splits.hold_back(values, truth, target, training)
    examples = Examples(contract, facts, snapshot, features, truth, is_validation, values)
    return examples, examples.held_back.rows, found


def train_model(
    examples: Examples, training: TrainingOptions, gate_metric: str | None = None
) -> Trained:
    """Choose and search where that is wanted, fit on the training rows, calibrate, and convert.

    ``gate_metric`` is that of the registry's gates, by which a threshold is chosen.
    """
    from mlops_for_mle.pipelines.training import calibration, estimators, onnx, splits

    training = training.model_copy(update={"metric": training.metric or gate_metric})
    contract, learned, seed = examples.contract, examples.learned, training.seed
    options, parameters = training.estimator, dict(training.estimator.parameters)
    found: dict[str, Any] = {}
    judged_by, threshold = None, None
    with estimators.threads_for(len(learned.features)):
        if options.is_auto:
            folds = splits.folds(learned, training)
            options, found["trials"], answers = estimators.choose_estimator(learned, folds, seed)
            judged_by = (folds, answers) if answers else None
            parameters = dict(options.parameters)
            simplest = estimators.auto_candidates(contract.target.task)[0]
            if options != simplest:
                linear = estimators.build_estimator(simplest, contract, seed)
                found["linear"] = linear.fit(learned.features, learned.truth)
        model = estimators.build_estimator(options, contract, seed)
        if training.search is not None:
            folds = splits.folds(learned, training, training.search.folds)
            best, found["trials"] = estimators.search_parameters(
                model, learned, training.search, folds, seed
            )
            estimators.inner_estimator(model).set_params(**best)
            parameters |= best
        model.fit(learned.features, learned.truth)
        if contract.target.classes:
            model, found["is_calibrated"], threshold = calibration.decide(
                model, learned, training, judged_by
            )
    predictor, parity = onnx.export(model, examples.features, contract)
    predictor.threshold = threshold
    return Trained(examples, training, model, parameters, predictor, parity, **found)


def evaluate_model(trained: Trained) -> dict[str, float]:
    """Measure the served form on training and validation rows, see ``ModelDescription``."""
    target, learned = trained.examples.target, trained.examples.learned
    truth = trained.examples.held_back.truth
    answers = _validation_answers(trained) | {"baseline": baseline(truth, target)}
    measured = {name: measure(one, truth, target) for name, one in answers.items()}
    # Without probabilities there is nothing to compare those of a constant answer with.
    measured["baseline"] = {name: measured["baseline"][name] for name in measured["validation"]}
    of_learned = trained.predictor.predict(learned.features.to_numpy())
    measured["training"] = measure(of_learned, learned.truth, target)
    return {
        f"{of}_{name}": value for of, found in measured.items() for name, value in found.items()
    }


def draw_plots(trained: Trained) -> tuple[Any, Any]:
    """Draw the confusion matrix and the scores by class (for regression, their counterparts)."""
    from mlops_for_mle.pipelines.training import plots

    held_back, answers = trained.examples.held_back, _validation_answers(trained)
    names = {"validation": "served", "uncalibrated": "before calibration"}
    shown = {names[name]: one for name, one in answers.items() if name in names}
    return plots.draw(held_back.truth, shown, held_back.target)


def _validation_answers(trained: Trained) -> dict[str, Predictions]:
    """What is answered to validation rows: as it is served, and by models that it grew from."""
    from mlops_for_mle.pipelines.training.calibration import uncalibrated
    from mlops_for_mle.pipelines.training.onnx import trained_answers

    features = trained.examples.held_back.features
    others = {"linear": trained.linear, "uncalibrated": uncalibrated(trained.model)}
    answers = {"validation": trained.predictor.predict(features.to_numpy())}
    return answers | {
        name: trained_answers(model, features)
        for name, model in others.items()
        if model is not None
    }


def assemble_candidate(
    trained: Trained, metrics: dict[str, float], data_quality: dict[str, Any]
) -> tuple[tuple[Trained, ModelDescription], Any]:
    """Describe what is to be logged; with a picture of the importance of its features."""
    from mlops_for_mle.pipelines.training import checks, estimators, plots
    from mlops_for_mle.pipelines.training.onnx import trained_answers

    examples, training, predictor = trained.examples, trained.training, trained.predictor
    contract, held_back = examples.contract, examples.held_back
    answers = trained_answers(trained.model, held_back.features.head(EXAMPLE_ROWS))
    answers = decided(answers, contract, predictor.threshold)
    about_rows = describe_rows(trained)
    candidates: tuple[EstimatorScore, ...] = ()
    if training.estimator.is_auto and trained.trials is not None:
        errors = trained.trials.set_index("estimator").T.agg(["mean", "sem"]).T
        names = {"mean": "error", "sem": "standard_error"}
        found = errors.rename(columns=names).reset_index(names="estimator").to_dict("records")
        candidates = tuple(EstimatorScore.model_validate(one) for one in found)
    description = ModelDescription(
        contract=contract,
        estimator=type(estimators.inner_estimator(trained.model)).__name__,
        precision=predictor.precision,
        metrics=metrics,
        snapshot=examples.facts,
        validation_rows=len(held_back.rows),
        candidates=candidates,
        calibrated=trained.is_calibrated,
        threshold=predictor.threshold,
        remarks=tuple(checks.remarks(trained, metrics, data_quality, about_rows["importance"])),
        parity=trained.parity,
        example=Example(
            rows=tuple(map(tuple, plain_rows(held_back.rows.head(EXAMPLE_ROWS), contract))),
            predictions=answers.values.tolist(),
            probabilities=None if answers.probabilities is None else answers.probabilities.tolist(),
        ),
        training=training.model_dump(mode="json"),
        model_sha256=sha256_of(predictor.model),
        model_bytes=len(predictor.model),
        **about_rows,
    )
    return (trained, description), plots.draw_importance(description.importance)


def describe_rows(trained: Trained) -> dict[str, Any]:
    """What a release needs of its rows to explain answers, and to tell what lies outside."""
    examples, contract = trained.examples, trained.examples.contract
    predictor, rows = trained.predictor, examples.features.to_numpy()
    answers = predictor.predict(rows)
    order = np.argsort(answers.values, kind="stable")
    if answers.probabilities is not None:
        order = np.lexsort([answers.probabilities.max(axis=1), answers.values])
    # Evenly spaced among the answers, so that their mean is nearly that of all.
    count = min(BACKGROUND_ROWS, len(rows))
    chosen = order[(np.arange(count) * len(rows) + len(rows) // 2) // count]
    background = plain_rows(examples.rows.iloc[chosen], contract)
    importance = Explainer(predictor, background[::5]).importance(rows[chosen])
    return {
        "background": background,
        "importance": importance,
        "training_ranges": training_ranges(rows[~examples.is_validation], contract),
    }
