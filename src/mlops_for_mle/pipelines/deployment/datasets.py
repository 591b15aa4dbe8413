"""The release store and the audit trail of deployments as catalog entries."""

import getpass
import logging
import os
from collections.abc import Callable
from typing import Any

import pandas as pd

from mlops_for_mle.pipelines.dataset import ContractDataset, ProjectDataset
from mlops_for_mle.releases.deployments import deploy
from mlops_for_mle.releases.manifest import Champion, Release
from mlops_for_mle.releases.store import ReleaseStore

_LOGGER = logging.getLogger(__name__)


class ReleaseDataset(ProjectDataset):
    """A release store: saving publishes, loading gives the function that fetches by name."""

    def __init__(self, url: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(metadata, url=url)
        self._store = ReleaseStore(url)

    def save(self, data: list[Release]) -> None:
        """Publish releases that are not there yet."""
        for release in data:
            self._store.publish(release)

    def load(self) -> Callable[[str, str], Release]:
        """Give the store's ``fetch``."""
        return self._store.fetch


class DeploymentDataset(ContractDataset):
    """The audit trail that servers follow."""

    def save(self, data: list[Champion]) -> None:
        """Append a row for each release that is not served already."""
        if not data:
            _LOGGER.warning(
                "nothing deployed: the registry has no champion that is to be put in service"
            )
        for champion in data:
            manifest, deployment = champion.manifest, champion.deployment
            newest = deployment.id if deployment else 0
            with self._engine.connect() as connection:
                row = deploy(connection, manifest, reason="champion", actor=actor(), newest=newest)
            outcome = "is deployed already" if row is None else "deployed (champion)"
            _LOGGER.info("release=%s %s", manifest.release, outcome)

    def load(self) -> pd.DataFrame:
        """The newest rows first."""
        with self._engine.connect() as connection:
            return pd.read_sql_query("SELECT * FROM deployments ORDER BY id DESC", connection)


def actor() -> str:
    """Who deploys, for the audit trail: ``MLOPS_ACTOR``, else the name of this user."""
    try:
        return os.environ.get("MLOPS_ACTOR") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
