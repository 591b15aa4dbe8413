"""The release in service, and the thread that keeps it the one that was deployed last."""

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.releases.manifest import Deployment, Manifest, Release
from mlops_for_mle.releases.predictor import Predictor, load
from mlops_for_mle.serving.codec import Codec
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from mlops_for_mle.serving.metrics import Metrics

Origin = Literal["store", "cache"]


@dataclass(frozen=True, eq=False)
class Served:
    """A release that has answered its own example, with what its contract determines.

    Attributes:
        deployment: The row of the audit trail that put it into service.
        manifest: All that is known of it.
        predictor: Answers encoded rows.
        codec: Reads rows and writes answers.
        origin: Whether it came from the release store or the local cache.
        loaded_at: When it took over in this process.
    """

    deployment: Deployment
    manifest: Manifest
    predictor: Predictor
    codec: Codec
    origin: Origin
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def load(cls, release: Release, deployment: Deployment, origin: Origin) -> Self:
        """Load a release and let it answer its example.

        Raises:
            ReleaseError: It cannot be loaded or fails its own example.
        """
        manifest = release.manifest
        return cls(deployment, manifest, load(release), Codec(manifest), origin)

    @property
    def contract(self) -> Contract:
        """What requests hold and answers mean."""
        return self.manifest.contract


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


class Releases:
    """Holds the release in service: one thread replaces it, any number of requests take it.

    A request takes ``current`` once and keeps to it, so that it is checked, answered and recorded
    by one release even while another takes over.
    """

    def __init__(self, settings: ServingSettings, metrics: "Metrics") -> None:
        """Prepare; nothing is read before ``start``.

        Args:
            settings: Where releases are, and how often to look.
            metrics: Is told of releases that took over, and of those that failed.
        """
        self._settings = settings
        self._metrics = metrics
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.current: Served | None = None
        self.status = FollowStatus()

    def start(self) -> None:
        """Serve the cached release, if any, and begin to follow; a second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping.wait(0 if self.status.checked_at is None else 1):
            try:
                self._follow()
                self.update(database_error=None, checked_at=datetime.now(UTC))
            except Exception as error:  # noqa: BLE001  (the thread outlives every failure)
                self.update(database_error=str(error), checked_at=datetime.now(UTC))

    def _follow(self) -> None:
        from sqlalchemy import text

        from mlops_for_mle.database.engine import database_url, engine_for
        from mlops_for_mle.releases import deployments
        from mlops_for_mle.releases.store import ReleaseStore

        with engine_for(database_url()).connect() as connection:
            contract = self._settings.model or connection.scalar(
                text("SELECT contract FROM deployments LIMIT 1")
            )
            row = contract and deployments.current(connection, contract)
        if row and (self.current is None or self.current.deployment != row):
            release = ReleaseStore(self._settings.release_store).fetch(row.contract, row.release)
            self.serve(Served.load(release, row, "store"))

    def serve(self, served: Served, failure: LoadFailure | None = None) -> None:
        """Put a release into service; ``failure`` says why it is not the one to serve."""
        self.current = served
        self._metrics.release_loaded(served.manifest)
        self.update(contract=served.contract.name, waiting_for=None, failure=failure)

    def obstacle(self) -> str:
        """Why there is no release in service, as a sentence."""
        status = self.status
        failure = status.failure.reason if status.failure else None
        return failure or status.database_error or status.waiting_for or "No release is loaded yet."

    @property
    def is_database_available(self) -> bool | None:
        """Whether the database answered the last time; None before the first time."""
        status = self.status
        return None if status.checked_at is None else status.database_error is None

    def update(self, **changes: object) -> None:
        """Replace parts of the status."""
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]
