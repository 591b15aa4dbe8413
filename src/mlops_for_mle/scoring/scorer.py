"""Follows the deployed release and scores rows with it, wherever the rows come from."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops_for_mle import deployments
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import reachable
from mlops_for_mle.deployments import DeploymentRow
from mlops_for_mle.errors import PrerequisiteError, ReleaseError
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.release import Manifest, ReleaseStore
from mlops_for_mle.scoring.row_scorer import RowScorer, ScoredRows

if TYPE_CHECKING:
    import pandas as pd

_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0

_LOGGER = logging.getLogger(__name__)


class ReleaseScorer:
    """Scores with the release that was deployed last.

    Attributes:
        database_url: Where deployments are looked up; may be set anew when the embedded server
            has come back at another port.
    """

    def __init__(self, contract: Contract, release_store_url: str, database_url: str) -> None:
        """Name what to follow; nothing is read before ``refresh``.

        Args:
            contract: Names the deployments to follow.
            release_store_url: A local folder or any URL that fsspec opens.
            database_url: The SQLAlchemy URL of the project's database.
        """
        self.database_url = database_url
        self._contract = contract
        self._store = ReleaseStore(release_store_url)
        self._loaded: RowScorer | None = None
        self._deployment = 0
        self._failed_deployment = 0
        self._failures = 0
        self._retry_at = 0.0
        self._obstacle: str | None = "The deployments were not looked up yet."

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the release that scores; None while there is none."""
        return self._loaded.manifest if self._loaded is not None else None

    @property
    def release(self) -> str | None:
        """The name of the release that scores; None while there is none."""
        return self._loaded.manifest.release if self._loaded is not None else None

    @property
    def obstacle(self) -> str | None:
        """Why the newest deployment is not the one that scores, as a sentence; None when it is."""
        return self._obstacle

    def refresh(self) -> bool:
        """Look up the newest deployment and load its release if it is another one.

        A release that cannot be loaded is logged once and tried again with growing pauses; the
        one before it goes on to score. Callers decide how often to ask; one query is cheap.

        Returns:
            Whether another release scores from now on.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        with reachable(self.database_url) as engine, engine.connect() as connection:
            deployment = deployments.current(connection, self._contract.name)
        if deployment is None:
            self._obstacle = (
                f"Contract {self._contract.name} was never deployed: run `kedro run` first."
            )
            return False
        if deployment.id == self._deployment:
            return False
        if deployment.release == self.release:
            self._now_scoring(deployment)
            return False
        return self._load(deployment)

    def score(self, rows: "Sequence[Mapping[str, Any]] | pd.DataFrame") -> ScoredRows:
        """Score the rows that fit the contract of the release.

        Args:
            rows: Values by feature name; other names are ignored.

        Raises:
            PrerequisiteError: No release is loaded; the message says why.
        """
        if self._loaded is None:
            raise PrerequisiteError(self._obstacle or "No release is loaded.")
        return self._loaded.score(rows)

    def _load(self, deployment: DeploymentRow) -> bool:
        is_retry = deployment.id == self._failed_deployment
        if is_retry and time.monotonic() < self._retry_at:
            return False
        try:
            loaded = load_scorer(self._store, deployment.contract, deployment.release)
        except ReleaseError as error:
            self._loading_failed(deployment, str(error), is_retry)
            return False
        self._loaded = loaded
        self._now_scoring(deployment)
        _LOGGER.info(
            "release=%s scores (model version %d, deployment %d)",
            deployment.release,
            deployment.model_version,
            deployment.id,
        )
        return True

    def _loading_failed(self, deployment: DeploymentRow, reason: str, is_retry: bool) -> None:
        self._failures = self._failures + 1 if is_retry else 1
        pause = _FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 16)
        self._retry_at = time.monotonic() + min(pause, _LONGEST_RETRY_SECONDS)
        self._failed_deployment = deployment.id
        self._obstacle = reason
        if not is_retry:
            _LOGGER.error(
                "deployment %d cannot be used, %s: %s",
                deployment.id,
                f"{self.release} goes on to score" if self._loaded else "nothing is scored",
                reason,
            )

    def _now_scoring(self, deployment: DeploymentRow) -> None:
        self._deployment = deployment.id
        self._obstacle = None
        self._failed_deployment = self._failures = 0


def load_scorer(store: ReleaseStore, contract: str, release: str) -> RowScorer:
    """Fetch a release, check its digest and let it answer its own example.

    Raises:
        ReleaseError: It is not there, incomplete, altered, answers wrongly, or the store does not
            answer.
    """
    try:
        return RowScorer(Predictor(store.fetch(contract, release)))
    except ReleaseError:
        raise
    except Exception as error:  # Each kind of store has its own errors.
        where = store.location(contract, release)
        raise ReleaseError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
