"""What passes between the pure nodes and the catalog, where it is more than a frame."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.release import Example, Parity, Precision, SnapshotFacts

# How the reason of a row begins that is rejected only because too many others are.
HELD_BACK = "batch: "


@dataclass(frozen=True)
class Batch:
    """The rows of one source, sorted into good and bad, to be written in one transaction.

    Attributes:
        source: Where the rows come from; with the digest it makes the batch's identity.
        content_sha256: Digest of the source's rows as they were read.
        accepted: The rows that fit the contract, with its columns and types.
        rejected: Columns ``row_number`` (1 is the first row of data), ``reason`` and
            ``row_data`` (the row as read, a dictionary).
    """

    source: str
    content_sha256: str
    accepted: pd.DataFrame
    rejected: pd.DataFrame


@dataclass(frozen=True)
class BatchReceipt:
    """What the ledger says of a batch.

    Attributes:
        batch_id: Its number in the ledger.
        source: Where its rows came from.
        row_count: How many of its rows are accepted by now.
        rejected_count: How many of its rows are rejected still.
        is_new: False when the same content had been ingested before.
        let_in: How many rows of a batch ingested before left the rejects just now.
    """

    batch_id: int
    source: str
    row_count: int
    rejected_count: int
    is_new: bool
    let_in: int = 0


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
