"""One loaded release and the place that holds the one in service."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from mlops_for_mle.contract import Configuration
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.release import Release
from mlops_for_mle.serving.formats.answers import AnswerWriter
from mlops_for_mle.serving.formats.invocation_reader import InvocationReader
from mlops_for_mle.serving.formats.row_reader import RowReader
from mlops_for_mle.serving.formats.tensor_reader import TensorReader
from mlops_for_mle.serving.formats.tensor_writer import TensorWriter
from mlops_for_mle.serving.releases.class_check import ClassCheck

Origin = Literal["store", "cache"]


class FollowedDeployment(Configuration):
    """The row of the ``deployments`` table that says what to serve."""

    id: int
    contract: str
    event: str
    release: str
    model_version: int
    run_id: str
    reason: str
    actor: str
    created_at: datetime


class ServedRelease:
    """A release that has answered its own example, with all that its contract determines."""

    def __init__(self, release: Release, deployment: FollowedDeployment, origin: Origin) -> None:
        """Load and probe.

        Raises:
            ReleaseError: It cannot be loaded or fails its own example.
        """
        self.predictor = Predictor(release)
        self.manifest = release.manifest
        self.contract = release.manifest.contract
        precision = self.manifest.model.precision
        self.reader = RowReader(self.contract, precision)
        self.invocation_reader = InvocationReader(self.contract, precision)
        self.tensor_reader = TensorReader(self.contract, precision)
        self.tensor_writer = TensorWriter(self.manifest)
        self.writer = AnswerWriter(self.manifest)
        self.class_check = ClassCheck(self.manifest)
        self.deployment = deployment
        self.origin: Origin = origin
        self.loaded_at = datetime.now(UTC)


class LoadFailure(Configuration):
    """Why a deployed release is not the one in service.

    Attributes:
        deployment: The id of the row in ``deployments``.
        release: The release that it names.
        reason: What went wrong.
        failed_at: When it was last tried.
        attempts: How often it was tried.
    """

    deployment: int
    release: str
    reason: str
    failed_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class FollowStatus:
    """What the follower last saw; replaced as a whole, never changed.

    Attributes:
        contract: The contract that is followed, once it is known.
        waiting_for: Why nothing is followed yet, as a sentence; None when all is well.
        database_error: Why the database does not answer; None when it does.
        checked_at: When the database was last asked; None before the first time.
        failure: Why the deployed release is not in service; None when it is.
    """

    contract: str | None = None
    waiting_for: str | None = "The server has just started and has not asked the database yet."
    database_error: str | None = None
    checked_at: datetime | None = None
    failure: LoadFailure | None = None


class ReleaseSlot:
    """Holds the release in service: one writer replaces it, any number of readers take it.

    A reader takes ``current`` once and keeps to it for the whole request, so that a request is
    checked, answered and recorded by one release even while another takes over.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.current: ServedRelease | None = None
        self.status = FollowStatus()

    def serve(self, served: ServedRelease, failure: LoadFailure | None = None) -> None:
        """Put a release into service; ``failure`` says why it is not the one to serve."""
        self.current = served
        self.update(contract=served.contract.name, waiting_for=None, failure=failure)

    def obstacle(self) -> str:
        """Why there is no release in service, as a sentence."""
        status = self.status
        failure = status.failure.reason if status.failure else None
        return failure or status.database_error or status.waiting_for or "No release is loaded yet."

    def update(self, **changes: object) -> None:
        """Replace parts of the status."""
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]
