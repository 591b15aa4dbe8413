"""What passes between the pure nodes and the catalog, where it is more than a frame."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.release import Example, Parity, Precision, SnapshotFacts


@dataclass(frozen=True)
class Window:
    """Rows that were read for training, and where from."""

    source: str
    rows: pd.DataFrame


class ModelPassport(Configuration):
    """What is stored with a model so that it can be checked, released and explained later.

    Attributes:
        contract: The contract that it was trained for.
        estimator: The class of its estimator.
        precision: The element type of the ONNX graph's input.
        onnx_sha256: Digest of the ONNX graph.
        metrics: Metrics by name, such as ``validation_accuracy``.
        snapshot: The rows that it was trained and validated on.
        parity: How the ONNX graph compared with the trained model.
        example: Rows with the trained model's answers.
        training: The parameters of its training, from which it can be trained again.
    """

    contract: Contract
    estimator: str
    precision: Precision
    onnx_sha256: str
    metrics: dict[str, float]
    snapshot: SnapshotFacts
    parity: Parity
    example: Example
    training: dict[str, Any] = Field(default_factory=dict)
