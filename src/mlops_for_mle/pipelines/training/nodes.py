"""Pure functions of training: a window of rows in, a candidate with its evidence out.

Each step hands on what the one before it gave and adds something, so a later process can begin
with any of the files that are kept. What imports scikit-learn, matplotlib or ONNX is imported
inside the functions, because every command imports this module.
"""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, frame_digest, plain_rows
from mlops_for_mle.contract.encoding import encode_target, encoded_columns
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.training import estimators
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions
from mlops_for_mle.releases.explain import Explainer
from mlops_for_mle.releases.manifest import (
    Example,
    ModelDescription,
    Parity,
    SnapshotFacts,
    sha256_of,
)
from mlops_for_mle.releases.metrics import baseline, measure
from mlops_for_mle.releases.predictor import Predictor
from mlops_for_mle.releases.ranges import training_ranges

EXAMPLE_ROWS = 5
BACKGROUND_ROWS = 50

_LOGGER = logging.getLogger(__name__)


class Window(Protocol):
    """Rows that were read for training, and where from."""

    source: str
    rows: pd.DataFrame


class ServedForm(NamedTuple):
    """An ONNX graph, the element type of its input, and how it compared with the model."""

    graph: bytes
    precision: Precision
    parity: Parity


@dataclass(frozen=True)
class Examples:
    """The rows of a snapshot as the table has them and, encoded, as a model takes them.

    Attributes:
        truth: What is to be answered for each row: class codes or numbers.
        is_validation: Which rows are held back; empty before the split.
    """

    contract: Contract
    facts: SnapshotFacts
    rows: pd.DataFrame
    features: pd.DataFrame
    truth: npt.NDArray[Any]
    is_validation: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @classmethod
    def of(cls, snapshot: pd.DataFrame, contract: Contract) -> Self:
        """Encode a snapshot as ``take_snapshot`` gives it."""
        names = [column.name for column in encoded_columns(contract)]
        target = snapshot[contract.target.column].to_numpy()
        return cls(
            contract,
            SnapshotFacts.model_validate(snapshot.attrs),
            snapshot,
            pd.DataFrame(encode_rows(snapshot, contract), columns=names),
            encode_target(target, contract.target),
        )


@dataclass(frozen=True)
class Fitted:
    """A scikit-learn pipeline, fitted to the examples that are not held back.

    Attributes:
        parameters: Of its estimator, as they were configured or found.
        trials: What a search has tried, with its scores.
    """

    examples: Examples
    training: TrainingOptions
    model: Any
    parameters: dict[str, Any]
    trials: pd.DataFrame | None


@dataclass(frozen=True)
class Trained(Fitted):
    """A fitted pipeline with its served form."""

    served: ServedForm


@dataclass(frozen=True)
class Candidate(Trained):
    """A trained model with its description: what is logged."""

    description: ModelDescription


def take_snapshot(window: Window, contract: Contract) -> pd.DataFrame:
    """Fix the rows of this run; their ``attrs`` are ``SnapshotFacts``."""
    snapshot = window.rows.copy(deep=False)
    facts = SnapshotFacts(
        source=window.source,
        sha256=frame_digest(snapshot),
        watermark=int(snapshot[contract.key].max()) if contract.key in snapshot else None,
        row_count=len(snapshot),
    )
    told = (facts.source, facts.row_count, facts.watermark, facts.sha256)
    _LOGGER.info("snapshot of %s: %d rows, watermark=%s, sha256=%s", *told)
    snapshot.attrs = dict(facts)
    return snapshot


def check_snapshot(
    snapshot: pd.DataFrame, contract: Contract, data_checks: DataCheckOptions
) -> tuple[Examples, dict[str, Any]]:
    """Encode the snapshot; gives the examples, and what was found of their fitness."""
    from mlops_for_mle.pipelines.training import checks

    examples = Examples.of(snapshot, contract)
    found, problems = checks.check(examples.features, examples.truth, contract, data_checks)
    if problems:
        raise UserError(
            f"{examples.facts.source} is not fit to train on: {'; '.join(problems)}. Nothing was "
            "trained."
        )
    return examples, found


def split_snapshot(examples: Examples, training: TrainingOptions) -> tuple[Examples, pd.DataFrame]:
    """Choose the validation rows, so that equal rows fall on one side.

    Distinct rows are put in the order of their hashes, class by class, and the first
    ``validation_fraction`` of each class is held back. So the order of the rows does not matter,
    and most rows keep their side when the table grows.

    Returns:
        The examples, and the validation rows as the table has them, for people.
    """
    target = examples.contract.target
    hashes = estimators.row_hashes(examples.features, training.seed)
    distinct, positions = np.unique(hashes, return_inverse=True)
    strata = {"The table": np.arange(len(distinct))}
    if target.task == "classification":
        # Contradicting classes of equal rows are settled by majority.
        counts = pd.crosstab(positions, examples.truth)
        counts = counts.reindex(columns=target.class_codes, fill_value=0)
        chosen = counts.to_numpy().argmax(axis=1)
        strata = {
            f"Class {one.value} ({one.label})": np.flatnonzero(chosen == place)
            for place, one in enumerate(target.classes)
        }
    is_held_back = np.zeros(len(distinct), dtype=bool)
    for name, members in strata.items():
        if len(members) < 2:
            raise UserError(
                f"{name} has {len(members)} distinct row(s); training needs at least 2 of each, "
                "one to learn from and one to validate on."
            )
        count = math.floor(training.validation_fraction * len(members) + 0.5)
        is_held_back[members[: min(max(1, count), len(members) - 1)]] = True
    is_validation = is_held_back[positions]
    return replace(examples, is_validation=is_validation), examples.rows[is_validation]


def train_model(examples: Examples, training: TrainingOptions) -> Fitted:
    """Search where that is wanted, then fit on the training rows."""
    features = examples.features[~examples.is_validation]
    truth = examples.truth[~examples.is_validation]
    model = estimators.build_estimator(training.estimator, examples.contract, training.seed)
    parameters, trials = dict(training.estimator.parameters), None
    if training.search is not None:
        best, trials = estimators.search_parameters(
            model, features, truth, training.search, training.seed
        )
        estimators.inner_estimator(model).set_params(**best)
        parameters |= best
    return Fitted(examples, training, model.fit(features, truth), parameters, trials)


def export_model(fitted: Fitted) -> Trained:
    """Convert to ONNX in the first precision in which the graph answers as the model does.

    Compared are all rows and a dense grid over their ranges and categories.
    """
    from mlops_for_mle.pipelines.training import onnx

    model, examples = fitted.model, fitted.examples
    features, contract = examples.features, examples.contract
    points = np.vstack([features, onnx.grid(features.to_numpy(), contract)])
    expected = onnx.trained_answers(model, pd.DataFrame(points, columns=features.columns))
    precisions: tuple[Precision, ...] = ("float32", "float64")
    failures = {}
    for precision in precisions:
        try:
            graph = onnx.convert(model, contract, precision)
            parity = onnx.compare(Predictor(graph, contract).predict(points), expected)
            return Trained(**vars(fitted), served=ServedForm(graph, precision, parity))
        except (*onnx.NOT_CONVERTIBLE, ReleaseError) as error:
            failures[precision] = str(error.__cause__ or error).strip().partition("\n")[0]
    names = ", ".join(estimators.names_for(contract.target.task))
    raise UserError(
        f"{type(estimators.inner_estimator(model)).__name__} cannot be served as it is configured, "
        f"because it has no ONNX form that answers as it does {failures}: choose for "
        f"training.estimator.name one of {names}, or other parameters."
    )


def evaluate_model(trained: Trained) -> dict[str, float]:
    """Measure the served form on training and validation rows.

    Returns:
        Metrics by names such as ``validation_accuracy``, and ``baseline_accuracy``: what a constant
        answer has on the validation rows.
    """
    examples, target = trained.examples, trained.examples.contract.target
    predictor = Predictor(trained.served.graph, examples.contract)
    metrics: dict[str, float] = {}
    is_held_back = examples.is_validation
    for part, chosen in (("training", ~is_held_back), ("validation", is_held_back)):
        truth = examples.truth[chosen]
        measured = measure(predictor.predict(examples.features[chosen].to_numpy()), truth, target)
        metrics |= {f"{part}_{name}": value for name, value in measured.items()}
    constant = measure(baseline(truth, target), truth, target)
    return metrics | {f"baseline_{name}": constant[name] for name in measured}


def draw_plots(trained: Trained) -> tuple[Any, Any]:
    """Draw the confusion matrix and the scores by class (for regression, their counterparts)."""
    from mlops_for_mle.pipelines.training import plots

    examples = trained.examples
    predictor = Predictor(trained.served.graph, examples.contract)
    found = predictor.predict(examples.features[examples.is_validation].to_numpy()).values
    return plots.draw(examples.truth[examples.is_validation], found, examples.contract.target)


def assemble_candidate(trained: Trained, metrics: dict[str, float]) -> tuple[Candidate, Any]:
    """Describe what is to be logged; with a picture of the importance of its features."""
    from mlops_for_mle.pipelines.training import plots
    from mlops_for_mle.pipelines.training.onnx import trained_answers

    examples, served = trained.examples, trained.served
    chosen = np.flatnonzero(examples.is_validation)[:EXAMPLE_ROWS]
    answers = trained_answers(trained.model, examples.features.iloc[chosen])
    description = ModelDescription(
        contract=examples.contract,
        estimator=type(estimators.inner_estimator(trained.model)).__name__,
        precision=served.precision,
        metrics=metrics,
        snapshot=examples.facts,
        parity=served.parity,
        example=Example(
            rows=tuple(map(tuple, plain_rows(examples.rows.iloc[chosen], examples.contract))),
            predictions=answers.values.tolist(),
            probabilities=None if answers.probabilities is None else answers.probabilities.tolist(),
        ),
        training=trained.training.model_dump(mode="json"),
        model_sha256=sha256_of(served.graph),
        model_bytes=len(served.graph),
        **describe_rows(trained),
    )
    candidate = Candidate(**vars(trained), description=description)
    return candidate, plots.draw_importance(description.importance)


def describe_rows(trained: Trained) -> dict[str, Any]:
    """What a release needs of its rows to explain answers, and to tell what lies outside."""
    examples, contract = trained.examples, trained.examples.contract
    predictor, rows = Predictor(trained.served.graph, contract), examples.features.to_numpy()
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
