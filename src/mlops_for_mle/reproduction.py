"""Trains once more on the rows and with the options of an earlier training.

``python -m mlops_for_mle.reproduction FOLDER`` reads what ``write_task`` has written to the folder
and leaves the outcome there for ``read_outcome``. It is a process of its own so that it can run
the code of another revision.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.predictor import Predictions
from mlops_for_mle.records import ModelPassport, Snapshot
from mlops_for_mle.release import SnapshotFacts

ROWS_FILE = "snapshot.parquet"
TASK_FILE = "task.json"
OUTCOME_FILE = "outcome.json"
ANSWERS_FILE = "answers.npz"


@dataclass(frozen=True)
class Outcome:
    """What a training gave.

    Attributes:
        metrics: As they are logged.
        onnx_sha256: Digest of the ONNX graph.
        answers: The model's answers for all rows of the snapshot.
    """

    metrics: dict[str, float]
    onnx_sha256: str
    answers: Predictions


def write_task(folder: Path, rows: pd.DataFrame, passport: ModelPassport) -> None:
    """Write what the process needs."""
    rows.to_parquet(folder / ROWS_FILE, index=False)
    task = {
        "contract": passport.contract.model_dump(mode="json"),
        "facts": passport.snapshot.model_dump(mode="json"),
        "training": passport.training,
    }
    (folder / TASK_FILE).write_text(json.dumps(task), encoding="utf-8")


def read_outcome(folder: Path) -> Outcome:
    """Read what the process has left."""
    outcome = json.loads((folder / OUTCOME_FILE).read_text("utf-8"))
    with np.load(folder / ANSWERS_FILE) as arrays:
        answers = Predictions(arrays["values"], arrays.get("probabilities"))
    return Outcome(outcome["metrics"], outcome["onnx_sha256"], answers)


def answers_for(model: Any, rows: pd.DataFrame, contract: Contract) -> Predictions:
    """A scikit-learn model's answers for rows of the contract's table."""
    from mlops_for_mle.contract.columns import encode_rows
    from mlops_for_mle.contract.encoding import encoded_columns

    names = [column.name for column in encoded_columns(contract)]
    features = pd.DataFrame(encode_rows(rows, contract), columns=names)
    probabilities = model.predict_proba(features) if hasattr(model, "predict_proba") else None
    return Predictions(np.asarray(model.predict(features)), probabilities)


def retrain(snapshot: Snapshot, contract: Contract, options: dict[str, Any]) -> Outcome:
    """Train as the pipeline does, from a snapshot to the ONNX graph."""
    from mlops_for_mle.configuration import parse_configuration
    from mlops_for_mle.pipelines.training import nodes
    from mlops_for_mle.pipelines.training.options import TrainingOptions
    from mlops_for_mle.release import sha256_of

    training = parse_configuration(TrainingOptions, options, "training")
    rows = snapshot.rows
    rows.attrs = dict(snapshot.facts)
    examples, _ = nodes.split_snapshot(nodes.Examples.of(rows, contract), training)
    fitted = nodes.train_model(examples, training)
    trained = nodes.export_model(fitted)
    return Outcome(
        metrics=nodes.evaluate_model(trained),
        onnx_sha256=sha256_of(trained.served.graph),
        answers=answers_for(fitted.model, rows, contract),
    )


def main(folder: Path) -> None:
    """Do the task of a folder."""
    task = json.loads((folder / TASK_FILE).read_text("utf-8"))
    contract = Contract.model_validate(task["contract"])
    facts = SnapshotFacts.model_validate(task["facts"])
    snapshot = Snapshot(facts, pd.read_parquet(folder / ROWS_FILE))
    outcome = retrain(snapshot, contract, task["training"])
    arrays = {"values": outcome.answers.values}
    if outcome.answers.probabilities is not None:
        arrays["probabilities"] = outcome.answers.probabilities
    np.savez(folder / ANSWERS_FILE, **arrays)  # type: ignore[arg-type]
    (folder / OUTCOME_FILE).write_text(
        json.dumps({"metrics": outcome.metrics, "onnx_sha256": outcome.onnx_sha256}), "utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
