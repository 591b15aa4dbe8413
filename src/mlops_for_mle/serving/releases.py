"""The release in service, and the thread that keeps it the one that was deployed last.

A new release is loaded and answers its example while the old one serves. One that fails never takes
over, and is tried again, since a store may heal. What is served lies in ``data/serving_cache``, for
a start without database and store.
"""

import logging
import math
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import msgspec

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import UserError, error_message
from mlops_for_mle.paths import project_path
from mlops_for_mle.releases.explain import Explainer, Ranges
from mlops_for_mle.releases.manifest import Deployment, Release
from mlops_for_mle.releases.predictor import load_predictor
from mlops_for_mle.releases.store import ReleaseStore
from mlops_for_mle.serving.codec import Codec
from mlops_for_mle.serving.database import reason_of, transaction
from mlops_for_mle.serving.predict import Answers
from mlops_for_mle.serving.prediction_log import logged_facts
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from mlops_for_mle.serving.metrics import Metrics

Origin = Literal["store", "cache"]

_STATEMENT_SECONDS, _PATIENCE_SECONDS = 3.0, 4.0
_DEPLOYMENT = "deployment.json"

logger = logging.getLogger(__name__)


class ServedRelease:
    """A release that has answered its own example, with what reads and writes its rows.

    ``deployment`` is the row that put it into service; ``origin`` says whence it was loaded.
    """

    def __init__(self, release: Release, deployment: Deployment, origin: Origin) -> None:
        """Load a release and let it answer its example; raises ReleaseError where it fails."""
        self.manifest = manifest = release.manifest
        self.contract = contract = manifest.contract
        self.deployment, self.origin, self.loaded_at = deployment, origin, datetime.now(UTC)
        self.predictor = load_predictor(release)
        self.codec, self.answers = Codec(manifest), Answers(manifest)
        self.logged = logged_facts(manifest)
        self.ranges = Ranges(contract, manifest.training_ranges, manifest.precision)
        self.explainer = Explainer(self.predictor, manifest.background)


class DatabaseHealth(Configuration):
    """Whether the database answers; ``available`` is None before the first look."""

    available: bool | None = None
    error: str | None = None


class LoadFailure(Configuration):
    """Why a deployed release is not the one in service."""

    deployment: int
    release: str
    reason: str


class Releases:
    """Holds the release in service: one thread replaces it, any number of requests take it.

    A request takes ``current`` once and keeps to it, so that it is checked, answered and recorded
    by one release even while another takes over.

    Attributes:
        contract: Whose deployments are followed, once it is known.
        waiting_for: Why none is followed yet, as a sentence; None when all is well.
        failure: Why the deployed release is not the one in service; None when it is.
    """

    def __init__(self, settings: ServingSettings, metrics: "Metrics") -> None:
        self._settings, self._metrics = settings, metrics
        self._store = ReleaseStore(settings.release_store)
        self._cache = Cache(str(project_path() / "data/serving_cache"))
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._stopping = threading.Event()
        # By the monotonic clock: since when an answer of the database is waited for, and when to
        # try a release again.
        self._asked_at, self._retry_at = math.inf, 0.0
        self._database = DatabaseHealth()
        self.current: ServedRelease | None = None
        self.contract = settings.model
        self.waiting_for: str | None = "The server has not asked the database yet."
        self.failure: LoadFailure | None = None

    def start(self) -> None:
        """Serve the cached release, if any, and begin to follow.

        The cache is read before the thread runs: later it could put an older release in service.
        """
        try:
            cached = self._cache.last_served(self._settings.model)
            if cached is not None:
                self.serve(ServedRelease(*cached, "cache"))
        except Exception as error:  # noqa: BLE001  (a damaged copy must not prevent the start)
            logger.warning("The cached release cannot be served: %s", error)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop following; waits for a step that is under way, but no longer than this."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def serve(self, served: ServedRelease) -> None:
        """Put a release into service."""
        if self.current is not None:
            self._metrics.swaps.inc()
        self.current = served
        self.contract, self.waiting_for, self.failure = served.contract.name, None, None
        name, number = served.manifest.release, served.deployment.id
        logger.info("Serving release %s (deployment %d, from the %s)", name, number, served.origin)

    @property
    def database(self) -> DatabaseHealth:
        """Whether the database answers; not, once it was waited for too long."""
        waited = time.monotonic() - self._asked_at
        if waited <= _PATIENCE_SECONDS:
            return self._database
        return DatabaseHealth(available=False, error=f"No answer for {waited:.0f} seconds")

    def obstacle(self) -> str:
        """Why there is no release in service, as a sentence."""
        failure = self.failure and self.failure.reason
        return failure or self.database.error or self.waiting_for or "The release is being fetched."

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause, deployment, error = self._settings.poll_seconds, None, None
            self._asked_at = time.monotonic()
            try:
                deployment = self._find_deployment()
            except Exception as refusal:  # noqa: BLE001  (the thread outlives every failure)
                error = reason_of(refusal)
            is_available = error is None
            if is_available is not self._database.available:
                level = logging.INFO if is_available else logging.WARNING
                logger.log(level, "Looking for deployments: %s", error or "the database answers")
            self._database = DatabaseHealth(available=is_available, error=error)
            self._asked_at = math.inf
            if deployment is not None:
                self._follow(deployment)

    def _find_deployment(self) -> Deployment | None:
        """The row to follow; a contract that was once found stays chosen while it has any."""
        from sqlalchemy import text

        from mlops_for_mle.releases import deployments

        row, reason, contracts = None, None, list[str]()
        wanted = self._settings.model or self.contract
        with transaction("follower", _STATEMENT_SECONDS) as connection:
            # Before the first run there is no such table.
            if connection.scalar(text("SELECT to_regclass('deployments') IS NOT NULL")):
                names = text("SELECT DISTINCT contract FROM deployments ORDER BY contract")
                contracts = [*connection.scalars(names)]
            if wanted in contracts or self._settings.model:
                contracts = [name for name in contracts if name == wanted]
            if len(contracts) == 1:
                (self.contract,) = contracts
                row = deployments.current(connection, self.contract)
        if not contracts:
            what = f"Nothing of {wanted}" if wanted else "Nothing"
            reason = f"{what} was deployed yet: run `kedro run` first."
        elif row is None:
            choice = " or ".join(contracts)
            reason = f"Several contracts are deployed: set MLOPS_MODEL to {choice}."
        if reason not in (None, self.waiting_for):
            logger.warning("No deployment to follow: %s", reason)
        self.waiting_for = reason
        return row

    def _follow(self, deployment: Deployment) -> None:
        """See to it that a deployment is served."""
        if self.current is not None and self.current.deployment == deployment:
            self.failure = None
            return
        is_new = self.failure is None or self.failure.deployment != deployment.id
        if not is_new and time.monotonic() < self._retry_at:
            return
        name = deployment.release
        reason = f"{self._store.url} has not answered yet"
        late = LoadFailure(deployment=deployment.id, release=name, reason=reason)
        # The client of a store that hangs fails after minutes only.
        telling = threading.Timer(_PATIENCE_SECONDS, setattr, (self, "failure", late))
        telling.daemon = True
        telling.start()
        try:
            release = self._store.fetch(deployment.contract, name)
            self.serve(ServedRelease(release, deployment, "store"))
        except Exception as error:
            self._retry_at = time.monotonic() + 10 * self._settings.poll_seconds
            reason = error_message(error)
            self.failure = LoadFailure(deployment=deployment.id, release=name, reason=reason)
            if is_new:
                self._metrics.failures.inc()
                trace = None if isinstance(error, UserError) else error
                message = "Deployment %d cannot be served: %s"
                logger.exception(message, deployment.id, reason, exc_info=trace)
            return
        finally:
            telling.cancel()
        try:
            self._cache.keep(release, deployment)
        except (OSError, UserError) as error:
            logger.warning("Release %s cannot be cached: %s", name, error)


class Cache(ReleaseStore):
    """A store in a local folder, of the release that is served and the row that put it there."""

    def last_served(self, contract: str | None) -> tuple[Release, Deployment] | None:
        """What was served last, of the contract or of the only one there is."""
        rows = list(Path(self.url).glob(f"{contract or '*'}/{_DEPLOYMENT}"))
        if len(rows) != 1:
            return None
        deployment = msgspec.json.decode(rows[0].read_bytes(), type=Deployment)
        return self.fetch(deployment.contract, deployment.release), deployment

    def keep(self, release: Release, deployment: Deployment) -> None:
        """Keep a release that has come into service, repairing its copy, and remove all others."""
        self.publish(release)
        row = Path(self.url, deployment.contract, _DEPLOYMENT)
        partial = row.with_suffix(f".{uuid4().hex}")
        partial.write_bytes(msgspec.json.encode(deployment))
        partial.replace(row)
        for path in row.parent.glob("*/"):
            if path.name != deployment.release:
                shutil.rmtree(path, ignore_errors=True)
