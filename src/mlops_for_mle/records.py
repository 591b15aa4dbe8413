"""What passes between the pure nodes and the catalog, where it is more than a frame."""

from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True)
class Snapshot:
    """The rows of one training run, fixed."""

    facts: SnapshotFacts
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


@dataclass(frozen=True)
class Candidate:
    """A model that a training run has logged."""

    run_id: str
    model_uri: str


@dataclass(frozen=True)
class ModelVersion:
    """A version of the registered model, loaded back.

    Attributes:
        name: The registered model.
        version: The version's number.
        run_id: The run that trained it.
        model: The scikit-learn model.
        passport: What was stored with it.
        validation: The validation rows of its training run.
    """

    name: str
    version: int
    run_id: str
    model: Any
    passport: ModelPassport
    validation: pd.DataFrame


@dataclass(frozen=True)
class Incumbent:
    """The champion at the time of the decision, or none."""

    champion: ModelVersion | None


class Decision(Configuration):
    """Whether a candidate becomes champion, and why.

    Attributes:
        name: The registered model.
        version: The candidate's version.
        run_id: The candidate's run.
        promote: Whether the alias ``champion`` moves to it.
        reasons: One sentence for each gate that was looked at.
        candidate_metrics: Measured on the candidate's validation rows.
        champion_version: The version it was compared with, if any.
        champion_metrics: The champion's metrics on the same rows.
    """

    name: str
    version: int
    run_id: str
    promote: bool
    reasons: tuple[str, ...]
    candidate_metrics: dict[str, float]
    champion_version: int | None = None
    champion_metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class ChampionBundle:
    """The champion's files and facts, as the registry has them.

    Attributes:
        name: The registered model.
        version: The champion's version.
        run_id: The run that trained it.
        registered_at: When the version was made, milliseconds since 1970.
        onnx: The ONNX graph.
        passport: What was stored with it.
    """

    name: str
    version: int
    run_id: str
    registered_at: int
    onnx: bytes = field(repr=False)
    passport: ModelPassport


@dataclass(frozen=True)
class NothingToDeploy:
    """There is no champion, because every candidate so far was rejected."""

    reason: str


DeploymentEvent = Literal["deploy", "rollback"]


class Deployment(Configuration):
    """A row to be appended to the audit trail of deployments."""

    contract: str
    event: DeploymentEvent
    release: str
    model_version: int
    run_id: str
    reason: str
