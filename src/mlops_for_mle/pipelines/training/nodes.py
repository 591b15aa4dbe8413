"""Pure functions of training: a window of rows in, a candidate with its evidence out.

scikit-learn, matplotlib and ONNX are imported inside the functions, because every `kedro`
command imports this module; that is why a model's type is not spelled out here either.
"""

from typing import Any

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.frames import digest
from mlops_for_mle.pipelines.training.data_checks import DataCheckOptions, check, require_good
from mlops_for_mle.pipelines.training.options import TrainingOptions
from mlops_for_mle.progress import show_progress
from mlops_for_mle.records import (
    ModelPassport,
    OnnxExport,
    Snapshot,
    TrainedModel,
    Window,
)
from mlops_for_mle.release import Example, SnapshotFacts, sha256_of

EXAMPLE_ROWS = 5


def take_snapshot(window: Window, contract: Contract) -> Snapshot:
    """Fix the rows of this run: their digest, their watermark and their number.

    Raises:
        UserError: A class of the contract has no row, or a number to be learned never differs.
    """
    rows = window.rows
    if contract.target.task == "classification":
        present = set(rows[contract.target.column].unique())
        absent = [
            f"{one.value} ({one.label})"
            for one in contract.target.classes
            if one.value not in present
        ]
        if absent:
            raise UserError(
                f"{window.source}: {len(rows)} rows and none of class {', '.join(absent)}; "
                "ingest rows of every class of the contract before training."
            )
    elif rows[contract.target.column].nunique() < 2:
        raise UserError(
            f"{window.source}: {contract.target.column} has the same value in all {len(rows)} "
            "rows, so there is nothing to learn; ingest other rows or choose another target."
        )
    watermark = int(rows[contract.key].max()) if contract.key in rows.columns else None
    facts = SnapshotFacts(
        source=window.source, sha256=digest(rows), watermark=watermark, row_count=len(rows)
    )
    return Snapshot(facts, rows)


def check_snapshot(
    snapshot: Snapshot, contract: Contract, data_checks: DataCheckOptions
) -> dict[str, Any]:
    """Look whether the snapshot is fit to train on."""
    return check(snapshot.rows, contract, data_checks)


def admit_snapshot(snapshot: Snapshot, data_quality: dict[str, Any]) -> Snapshot:
    """Hand the snapshot on if it is fit to train on.

    Raises:
        UserError: It is not; the message says why and what to do.
    """
    require_good(data_quality, snapshot.facts.source)
    return snapshot


def split_snapshot(
    snapshot: Snapshot, contract: Contract, training: TrainingOptions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split into training and validation rows; equal rows fall on one side."""
    from mlops_for_mle.pipelines.training.split import split_rows

    return split_rows(snapshot.rows, contract, training.validation_fraction, training.seed)


def train_model(
    training_rows: pd.DataFrame, contract: Contract, training: TrainingOptions
) -> tuple[Any, dict[str, Any]]:
    """Search where that is wanted, then fit on the training rows.

    Returns:
        The fitted pipeline and the estimator's parameters that were set.
    """
    from mlops_for_mle.pipelines.training.estimator import (
        build_estimator,
        fit,
        search_parameters,
        set_parameters,
    )

    model = build_estimator(training.estimator, contract, training.seed, search=training.search)
    chosen = dict(training.estimator.parameters)
    if training.search is not None:
        best = search_parameters(
            model, training_rows, contract, training.search, training.seed, show_progress
        )
        set_parameters(model, best)
        chosen |= best
    return fit(model, training_rows, contract), chosen


def evaluate_model(
    model: Any,
    training_rows: pd.DataFrame,
    validation_rows: pd.DataFrame,
    contract: Contract,
) -> dict[str, float]:
    """Measure the model on training and validation rows."""
    from mlops_for_mle.pipelines.metrics import measure

    return {
        f"{name}_{metric}": value
        for name, rows in (("training", training_rows), ("validation", validation_rows))
        for metric, value in measure(model, rows, contract).items()
    }


def export_model(model: Any, snapshot: Snapshot, contract: Contract) -> OnnxExport:
    """Convert to ONNX and compare both forms on the snapshot's rows and on a dense grid."""
    from mlops_for_mle.pipelines.training.onnx_export import export

    return export(model, snapshot.rows, contract)


def draw_plots(model: Any, validation_rows: pd.DataFrame, contract: Contract) -> tuple[Any, Any]:
    """Draw the confusion matrix and the report by class (for regression, their counterparts)."""
    from mlops_for_mle.pipelines.training.estimator import model_input
    from mlops_for_mle.pipelines.training.plots import plot_errors, plot_report
    from mlops_for_mle.target import encode_target

    truth = encode_target(validation_rows[contract.target.column], contract.target)
    found = model.predict(model_input(validation_rows, contract))
    return plot_errors(truth, found, contract), plot_report(truth, found, contract)


def assemble_candidate(
    model: Any,
    parameters: dict[str, Any],
    export: OnnxExport,
    metrics: dict[str, float],
    snapshot: Snapshot,
    validation_rows: pd.DataFrame,
    contract: Contract,
    training: TrainingOptions,
) -> TrainedModel:
    """Put together everything that is logged with the model."""
    from mlops_for_mle.encoding import encoding_of
    from mlops_for_mle.frame_encoding import plain_rows
    from mlops_for_mle.pipelines.training.estimator import choose
    from mlops_for_mle.pipelines.training.onnx_export import estimator_name, trained_answers

    encoding = encoding_of(contract)
    example_rows = plain_rows(validation_rows.head(EXAMPLE_ROWS), contract)
    answers = trained_answers(model, encoding.rows(example_rows), contract)
    passport = ModelPassport(
        contract=contract,
        estimator=estimator_name(model),
        precision=export.precision,
        onnx_sha256=sha256_of(export.graph),
        metrics=metrics,
        snapshot=snapshot.facts,
        parity=export.parity,
        example=Example(
            rows=tuple(map(tuple, example_rows)),
            predictions=answers.values.tolist(),
            probabilities=None if answers.probabilities is None else answers.probabilities.tolist(),
        ),
        training=training.model_dump(mode="json"),
    )
    settings = {
        "estimator": passport.estimator,
        "onnx_precision": passport.precision,
        "validation_fraction": training.validation_fraction,
        "seed": training.seed,
        "scale": choose(training.estimator, contract, "training.estimator").is_scaled,
        **{f"estimator.{name}": value for name, value in parameters.items()},
    }
    return TrainedModel(model, export.graph, passport, validation_rows, settings)
