"""Keeps the served release the one that was deployed last."""

import logging
import random
import threading
import time
from datetime import UTC, datetime

from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.release import Release, ReleaseStore
from mlops_for_mle.serving.recording import ServingMetrics
from mlops_for_mle.serving.releases.deployment_log import DeploymentLog
from mlops_for_mle.serving.releases.release_cache import ReleaseCache
from mlops_for_mle.serving.releases.served_release import (
    FollowedDeployment,
    LoadFailure,
    Origin,
    ReleaseSlot,
    ServedRelease,
)
from mlops_for_mle.serving.settings import ServingSettings

_FIRST_RETRY_SECONDS = 0.25
_EARLIER_DEPLOYMENTS = 20

logger = logging.getLogger(__name__)


class DeploymentFollower:
    """A thread that asks for the newest deployment and swaps its release in.

    The new release is loaded and probed while the old one answers; a release that fails never
    takes over, and is tried again with growing pauses, since a store may heal.
    """

    def __init__(
        self,
        settings: ServingSettings,
        slot: ReleaseSlot,
        log: DeploymentLog,
        metrics: ServingMetrics,
    ) -> None:
        """Prepare; nothing is read before ``load_cached`` or ``start``."""
        self._slot = slot
        self._log = log
        self._metrics = metrics
        self._store = ReleaseStore(settings.release_store)
        self._cache = ReleaseCache(settings.cache)
        self._contract = settings.model
        self._poll_seconds = settings.poll_seconds
        self._retry_seconds = settings.retry_seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._database_failures = 0
        self._retry_at = 0.0
        self._unrecorded: tuple[FollowedDeployment, str] | None = None

    def load_cached(self) -> bool:
        """Serve at once what this machine served last; whether there was anything to serve."""
        contract = self._contract
        if contract is None:
            kept = self._cache.contracts()
            if len(kept) != 1:
                return False
            contract = kept[0]
        try:
            found = self._cache.last_served(contract)
            if found is None:
                return False
            served = ServedRelease(*found, origin="cache")
        except (ReleaseError, OSError) as error:
            logger.warning("The cached release of %s cannot be served: %s", contract, error)
            return False
        self._take_over(served)
        return True

    def start(self) -> None:
        """Serve the cached release, if any, and begin to follow; a second call changes nothing.

        The cache is read before the thread runs: later it could put an older release in service.
        """
        if self._thread is not None:
            return
        if self._slot.current is None:
            self.load_cached()
        self._thread = threading.Thread(target=self._run, name="deployment-follower", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Stop following; waits for a step that is under way, but no longer than told."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                pause = self._follow()
                self._database_failures = 0
                self._slot.update(database_error=None)
            except Exception as error:  # noqa: BLE001  (the thread outlives every failure)
                pause = self._database_failed(error)
            self._slot.update(checked_at=datetime.now(UTC))
            pause *= random.uniform(0.9, 1.1)  # noqa: S311  (spreads workers, guards nothing)

    def _follow(self) -> float:
        """Take one step; gives the seconds until the next.

        Raises:
            Exception: The database does not answer.
        """
        contract = self._chosen_contract()
        if contract is None:
            return self._poll_seconds
        self._record_failure()
        deployment = self._log.current(contract)
        if deployment is None:
            self._slot.update(contract=contract)
            self._wait_for(
                f"Contract {contract} was never deployed: run `kedro run` first, with the --env "
                "of that contract if it has one."
            )
            return self._poll_seconds
        served = self._slot.current
        if served is not None and served.deployment == deployment:
            self._slot.update(contract=contract, waiting_for=None, failure=None)
        else:
            self._slot.update(contract=contract, waiting_for=None)
            self._try_to_load(deployment)
        self._record_failure()
        return self._poll_seconds

    def _chosen_contract(self) -> str | None:
        """The contract to follow; what was once served stays chosen while this process runs."""
        if self._contract is not None:
            return self._contract
        if self._slot.current is not None:
            return self._slot.current.contract.name
        deployed = self._log.contracts()
        if len(deployed) == 1:
            return deployed[0]
        self._wait_for(
            f"Several contracts are deployed: set MLOPS_MODEL to {_either(deployed)}."
            if deployed
            else "Nothing was deployed yet: run `kedro run` first."
        )
        return None

    def _wait_for(self, reason: str) -> None:
        """Say why there is nothing to follow: in every answer, and once in the log."""
        if self._slot.status.waiting_for != reason:
            logger.warning("No deployment to follow: %s", reason)
        self._slot.update(waiting_for=reason)

    def _try_to_load(self, deployment: FollowedDeployment) -> None:
        failure = self._slot.status.failure
        is_retry = failure is not None and failure.deployment == deployment.id
        if is_retry and time.monotonic() < self._retry_at:
            return
        try:
            release, origin = self._fetch(deployment)
            self._take_over(ServedRelease(release, deployment, origin))
        except Exception as error:  # noqa: BLE001  (the old release outlives every failure)
            attempts = failure.attempts + 1 if is_retry and failure is not None else 1
            self._loading_failed(deployment, error, attempts)
            if self._slot.current is None:
                self._fall_back(deployment)
        else:
            self._keep(release, deployment)

    def _fall_back(self, broken: FollowedDeployment) -> None:
        """Serve the newest earlier deployment that works, while nothing else is in service."""
        failure = self._slot.status.failure
        for deployment in self._log.earlier(broken, _EARLIER_DEPLOYMENTS):
            try:
                release, origin = self._fetch(deployment)
                served = ServedRelease(release, deployment, origin)
            except Exception as error:  # noqa: BLE001  (the next one may work)
                logger.warning("Release %s cannot be served either: %s", deployment.release, error)
                continue
            self._take_over(served, failure)
            self._keep(release, deployment)
            return

    def _fetch(self, deployment: FollowedDeployment) -> tuple[Release, Origin]:
        try:
            release = self._store.fetch(deployment.contract, deployment.release)
        except ReleaseError:
            raise
        except Exception as error:  # noqa: BLE001  (each kind of store has its own errors)
            try:
                release = self._cache.release(deployment)
            except (ReleaseError, OSError):
                where = self._store.location(deployment.contract, deployment.release)
                raise ReleaseError(f"{where} cannot be read: {error}") from error
            logger.warning("The release store does not answer, using the cached copy: %s", error)
            return release, "cache"
        return release, "store"

    def _take_over(self, served: ServedRelease, failure: LoadFailure | None = None) -> None:
        self._slot.serve(served, failure)
        self._metrics.release_loaded(served.manifest)
        logger.info(
            "Serving release %s (deployment %d, from the %s)",
            served.manifest.release,
            served.deployment.id,
            served.origin,
        )

    def _keep(self, release: Release, deployment: FollowedDeployment) -> None:
        try:
            self._cache.keep(release, deployment)
        except OSError as error:
            logger.warning("Release %s cannot be cached: %s", deployment.release, error)

    def _loading_failed(
        self, deployment: FollowedDeployment, error: Exception, attempts: int
    ) -> None:
        if isinstance(error, UserError):
            reason = str(error)
        else:
            reason = f"{type(error).__name__}: {error}"
            logger.error("Release %s cannot be loaded", deployment.release, exc_info=error)
        self._retry_at = time.monotonic() + self._back_off(attempts)
        self._slot.update(
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
        served = self._slot.current
        logger.error(
            "Deployment %d cannot be served, %s: %s",
            deployment.id,
            f"{served.manifest.release} stays in service" if served else "nothing is served",
            reason,
        )
        self._metrics.release_failed(deployment.release)
        self._unrecorded = (deployment, reason)

    def _record_failure(self) -> None:
        if self._unrecorded is not None:
            self._log.record_failure(*self._unrecorded)
            self._unrecorded = None

    def _database_failed(self, error: Exception) -> float:
        self._database_failures += 1
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if self._database_failures == 1:
            unexpected = None if isinstance(error, UserError) else error
            logger.warning("Deployments cannot be followed: %s", reason, exc_info=unexpected)
        self._slot.update(database_error=reason)
        return self._back_off(self._database_failures)

    def _back_off(self, attempts: int) -> float:
        return float(min(self._retry_seconds, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 16)))


def _either(names: list[str]) -> str:
    return " or ".join(names)
