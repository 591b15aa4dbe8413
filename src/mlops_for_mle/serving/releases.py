"""The release in service, and the thread that keeps it the one that was deployed last.

A new release is loaded and answers its example while the old one serves. One that fails never takes
over, and is tried again, since a store may heal. What was served lies in a local cache: for a start
without database and store, and for the way back.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from uuid import uuid4

import msgspec

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.errors import UserError
from mlops_for_mle.releases.explain import Explainer
from mlops_for_mle.releases.manifest import Deployment, Manifest, Release
from mlops_for_mle.releases.predictor import Predictor, load
from mlops_for_mle.releases.ranges import Ranges
from mlops_for_mle.releases.store import ReleaseStore
from mlops_for_mle.serving.codec import Codec
from mlops_for_mle.serving.database import reason_of, transaction
from mlops_for_mle.serving.predict import Answers
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mlops_for_mle.serving.metrics import Metrics

Origin = Literal["store", "cache"]

_STATEMENT_SECONDS, _PATIENCE_SECONDS = 5.0, 6.0
_DATABASE_RETRY_SECONDS = 2.0
_CACHED_RELEASES, _POINTER = 5, "current.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A release that has answered its own example, with what its contract determines.

    Attributes:
        deployment: The row of the audit trail that put it into service.
        manifest: All that is known of it.
        contract: What requests hold and answers mean.
        predictor: Answers encoded rows.
        codec: Reads rows.
        answers: Writes answers.
        ranges: Finds what lies outside the rows that it was trained on.
        explainer: Tells why it answers as it does.
        origin: Whether it came from the release store or the local cache.
        loaded_at: When it took over in this process.
    """

    deployment: Deployment
    manifest: Manifest
    contract: Contract
    predictor: Predictor
    codec: Codec
    answers: Answers
    ranges: Ranges
    explainer: Explainer
    origin: Origin
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def load(cls, release: Release, deployment: Deployment, origin: Origin) -> Self:
        """Load a release and let it answer its example.

        Raises:
            ReleaseError: It cannot be loaded or fails its own example.
        """
        manifest, contract, predictor = release.manifest, release.manifest.contract, load(release)
        parts = (
            predictor,
            Codec(manifest),
            Answers(manifest),
            Ranges(contract, manifest.training_ranges),
            Explainer(predictor, manifest.background),
        )
        return cls(deployment, manifest, contract, *parts, origin)


class LoadFailure(Configuration):
    """Why a deployed release is not the one in service, and when and how often it was tried."""

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
        checked_at: When the database last answered or refused; None before the first time.
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
        self._settings, self._metrics = settings, metrics
        self._store, self._cache = ReleaseStore(settings.release_store), Cache(settings.cache)
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._stopping = threading.Event()
        self._status = FollowStatus()
        self._asked_at: float | None = None
        self._retry_at = 0.0
        self.current: Served | None = None

    def start(self) -> None:
        """Serve the cached release, if any, and begin to follow.

        The cache is read before the thread runs: later it could put an older release in service.
        """
        contract = self._settings.model or self._cache.only_contract()
        try:
            found = self._cache.last_served(contract) if contract else None
            if found is not None:
                self._take_over(Served.load(*found, "cache"))
        except Exception as error:  # noqa: BLE001  (a damaged copy must not prevent the start)
            logger.warning("The cached release of %s cannot be served: %s", contract, error)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop following; waits for a step that is under way, but no longer than told."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def serve(self, served: Served) -> None:
        """Put a release into service."""
        self.current = served
        self._metrics.release_loaded(served.manifest)
        self.update(contract=served.contract.name, waiting_for=None, failure=None)

    @property
    def status(self) -> FollowStatus:
        """What the follower last saw, also while it waits for a database that is stuck."""
        asked_at = self._asked_at
        waited = 0.0 if asked_at is None else time.monotonic() - asked_at
        if waited <= _PATIENCE_SECONDS:
            return self._status
        return replace(self._status, database_error=f"No answer for {waited:.0f} seconds")

    def update(self, **changes: object) -> None:
        """Replace parts of the status."""
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]

    def obstacle(self) -> str:
        """Why there is no release in service, as a sentence."""
        status = self.status
        failure = status.failure and status.failure.reason
        return failure or status.database_error or status.waiting_for or "No release is loaded yet."

    @property
    def is_database_available(self) -> bool | None:
        """Whether the database answers; None before the first time."""
        status = self.status
        if status.database_error is not None:
            return False
        return None if status.checked_at is None else True

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            deployment, error = None, None
            try:
                deployment = self._look()
            except Exception as refusal:  # noqa: BLE001  (the thread outlives every failure)
                error = reason_of(refusal)
            if error and self._status.database_error is None:
                logger.warning("Deployments cannot be followed: %s", error)
            elif self._status.database_error is not None and not error:
                logger.info("Deployments are followed again")
            self.update(database_error=error, checked_at=datetime.now(UTC))
            if deployment is not None:
                self._follow(deployment)
            pause = self._settings.poll_seconds
            if error:
                pause = min(pause, _DATABASE_RETRY_SECONDS)

    @contextmanager
    def _asking(self) -> "Iterator[Connection]":
        self._asked_at = time.monotonic()
        try:
            with transaction("follower", 1, _STATEMENT_SECONDS) as connection:
                yield connection
        finally:
            self._asked_at = None

    def _look(self) -> Deployment | None:
        """The row to follow; what was once served stays chosen while this process runs."""
        from sqlalchemy import text

        from mlops_for_mle.releases import deployments

        contract = self._settings.model or (self.current and self.current.contract.name)
        reason, row = "Nothing was deployed yet: run `kedro run` first.", None
        with self._asking() as connection:
            # Before the first run there is no such table.
            if connection.scalar(text("SELECT to_regclass('deployments') IS NOT NULL")):
                if not contract:
                    names = "SELECT DISTINCT contract FROM deployments ORDER BY contract"
                    deployed = list(connection.scalars(text(names)))
                    contract = deployed[0] if len(deployed) == 1 else None
                    if len(deployed) > 1:
                        several = " or ".join(deployed)
                        reason = f"Several contracts are deployed: set MLOPS_MODEL to {several}."
                if contract:
                    reason = f"Contract {contract} was never deployed: run `kedro run` first."
                    row = deployments.current(connection, contract)
        waiting_for = reason if row is None else None
        if waiting_for and waiting_for != self._status.waiting_for:
            logger.warning("No deployment to follow: %s", reason)
        self.update(contract=contract or self._status.contract, waiting_for=waiting_for)
        return row

    def _follow(self, deployment: Deployment) -> None:
        """See to it that a deployment is served, unless it has just failed."""
        if self.current is not None and self.current.deployment == deployment:
            self.update(failure=None)
            return
        failure = self._status.failure
        attempts = failure.attempts if failure and failure.deployment == deployment.id else 0
        if attempts and time.monotonic() < self._retry_at:
            return
        try:
            self._load(deployment)
        except Exception as error:  # noqa: BLE001  (the old release outlives every failure)
            self._retry_at = time.monotonic() + self._settings.retry_seconds
            self._tell(deployment, error, attempts + 1)

    def _load(self, deployment: Deployment) -> None:
        """Serve a release, out of the cache where it is whole."""
        contract, name = deployment.contract, deployment.release
        origin: Origin = "cache"
        try:
            release = self._cache.store.fetch(contract, name)
        except UserError:
            origin = "store"
            release = self._store.fetch(contract, name)
        self._take_over(Served.load(release, deployment, origin))
        try:
            self._cache.keep(release, deployment)
        except (OSError, UserError) as error:
            logger.warning("Release %s cannot be cached: %s", name, error)

    def _take_over(self, served: Served) -> None:
        self.serve(served)
        name, number = served.manifest.release, served.deployment.id
        logger.info("Serving release %s (deployment %d, from the %s)", name, number, served.origin)

    def _tell(self, deployment: Deployment, error: Exception, attempts: int) -> None:
        """Tell of a failure, the first time also in the audit trail where that can be written."""
        from mlops_for_mle.releases import deployments

        is_known = isinstance(error, UserError)
        reason = str(error) if is_known else f"{type(error).__name__}: {error}"
        self.update(
            failure=LoadFailure(
                deployment=deployment.id,
                release=deployment.release,
                reason=reason,
                failed_at=datetime.now(UTC),
                attempts=attempts,
            )
        )
        if attempts > 1:
            return
        self._metrics.release_failed()
        stays = f"{self.current.manifest.release} stays" if self.current else "nothing is"
        told = "Deployment %d cannot be served, %s in service: %s"
        logger.error(told, deployment.id, stays, reason, exc_info=None if is_known else error)
        try:
            with self._asking() as connection:
                deployments.record_failure(connection, deployment, reason)
        except Exception as refusal:  # noqa: BLE001  (a login may have no right to, for example)
            told = "The failure of deployment %d is not in the audit trail: %s"
            logger.warning(told, deployment.id, reason_of(refusal))


class Cache:
    """A release store in a local folder, with a pointer to the deployment that was served last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = ReleaseStore(str(folder))

    def only_contract(self) -> str | None:
        """The contract of which a release is kept, where it is the only one."""
        found = [path.parent.name for path in self._folder.glob(f"*/{_POINTER}")]
        return found[0] if len(found) == 1 else None

    def last_served(self, contract: str) -> tuple[Release, Deployment] | None:
        """The release that was served last; None when nothing is kept.

        Raises:
            Exception: What is kept is not complete or was altered.
        """
        pointer = self._folder / contract / _POINTER
        if not pointer.exists():
            return None
        deployment = msgspec.json.decode(pointer.read_bytes(), type=Deployment)
        return self.store.fetch(contract, deployment.release), deployment

    def keep(self, release: Release, deployment: Deployment) -> None:
        """Keep a release that has come into service, mending its copy; older ones go in time."""
        self.store.publish(release)
        folder = self._folder / deployment.contract
        os.utime(folder / deployment.release)
        partial = folder / f"{_POINTER}.{uuid4().hex}"
        partial.write_bytes(msgspec.json.encode(deployment))
        partial.replace(folder / _POINTER)
        copies = [path for path in folder.iterdir() if path.is_dir()]
        copies.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in copies[_CACHED_RELEASES:]:
            shutil.rmtree(path, ignore_errors=True)
