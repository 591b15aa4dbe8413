"""What is known of a trained model, from its training to its service, in one document."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.errors import ReleaseError

CANDIDATE_TAG = "mlops.candidate_model"
"""The tag by which a run's candidate is found: the URI of its model."""
PlainValue = bool | int | float | str | None


class SnapshotFacts(Configuration):
    """The rows that the model was trained and validated on, with their ``frame_digest``.

    ``watermark`` is the largest key, None for a file.
    """

    source: str
    sha256: str
    watermark: int | None
    row_count: int = Field(ge=1)


class Parity(Configuration):
    """How the served model compared with the trained one, on so many rows."""

    point_count: int
    largest_difference: float


class Example(Configuration):
    """Rows with the model's answers when it was trained; a loaded release must repeat them.

    Values are plain and in the order of the contract's features, predictions class codes or
    numbers, probabilities in the order of the contract's classes.
    """

    rows: tuple[tuple[PlainValue, ...], ...] = Field(min_length=1)
    predictions: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...] | None = None


class EstimatorScore(Configuration):
    """An estimator's mean error over the folds of a cross-validation, and its standard error."""

    estimator: str
    error: float
    standard_error: float


class TrainingRange(Configuration):
    """The range of an encoded column in the training rows, missing values aside.

    ``absent`` are the codes of categories within it that no row has.
    """

    least: float
    largest: float
    absent: tuple[float, ...] = ()


class ModelDescription(Configuration):
    """A trained model.

    Attributes:
        metrics: By names such as ``validation_accuracy``: of the model on ``training`` and
            ``validation`` rows; on the latter also of a constant answer, ``baseline``, of the
            ``linear`` model that ``auto`` has compared it with, and of the model before it was
            calibrated, ``uncalibrated``.
        candidates: What ``auto`` chose from, the simplest first, with their log loss or RMSE.
        calibrated: Whether its probabilities agree with held-out rows: they were calibrated on
            them, or shown to need no calibration.
        threshold: The answer is the second of two classes where its probability is at least this;
            None: it is the most probable class.
        remarks: What a person should look at, a sentence each.
        training: The parameters of its training, from which it can be trained again.
        importance: The mean size of each feature's contribution to an answer.
        background: Rows of the snapshot with which answers are compared to explain them, like
            those of the example.
    """

    contract: Contract
    estimator: str
    precision: Precision
    metrics: dict[str, float]
    snapshot: SnapshotFacts
    validation_rows: int | None = None
    candidates: tuple[EstimatorScore, ...] = ()
    calibrated: bool = False
    threshold: float | None = Field(default=None, gt=0, lt=1)
    remarks: tuple[str, ...] = ()
    parity: Parity
    example: Example
    training: dict[str, Any] = Field(default_factory=dict)
    model_sha256: str
    model_bytes: int = Field(ge=1)
    importance: dict[str, float] = Field(default_factory=dict)
    training_ranges: dict[str, TrainingRange] = Field(default_factory=dict)
    background: tuple[tuple[PlainValue, ...], ...] = Field(min_length=1, repr=False)

    @property
    def has_probabilities(self) -> bool:
        """Whether the model has a second output, rows by classes."""
        return self.example.probabilities is not None


class Manifest(ModelDescription):
    """A released model: which version of the registry it is, and when that was registered."""

    format: Literal[2] = 2
    release: str
    created_at: datetime
    version: int = Field(ge=1)
    run_id: str


class Release(Configuration):
    """A manifest with the bytes of its model; a ``ReleaseError`` where their digest is another."""

    manifest: Manifest
    model: bytes = Field(repr=False, exclude=True)

    @model_validator(mode="after")
    def _is_unaltered(self) -> Self:
        if sha256_of(self.model) != self.manifest.model_sha256:
            raise ReleaseError(
                f"Release {self.manifest.release} was altered: its digest is another"
            )
        return self


@dataclass(frozen=True)
class Deployment:
    """One row of the audit trail, as the table has its columns; see ``releases.deployments``."""

    id: int
    contract: str
    event: Literal["deploy", "rollback"]
    release: str
    model_version: int
    run_id: str
    reason: str
    actor: str
    created_at: datetime


class Champion(Release):
    """The release to serve, and the newest deployment when it was chosen."""

    deployment: Deployment | None = None


def sha256_of(content: bytes) -> str:
    """The digest in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def release_name(contract: str, version: int, run_id: str) -> str:
    """The name of a release; by its run it differs from a version of the same number elsewhere."""
    return f"{contract}-v{version}-{run_id[:8]}"
