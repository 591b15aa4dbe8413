"""The deployed release with the snapshot that its model was trained on, as a catalog entry."""

from pathlib import Path
from typing import Any

import pandas as pd

from mlops_for_mle import deployments
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import reachable
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.datasets.model_files import temporary_folder
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.foreign_errors import reason_of, usable
from mlops_for_mle.frames import digest
from mlops_for_mle.records_monitoring import DeployedRelease
from mlops_for_mle.release import ReleaseStore

_SNAPSHOT_FOLDER = "snapshot"


class DeployedReleaseDataset(ReadOnlyDataset[DeployedRelease]):
    """Reads what is served now: the audit trail, the release store and MLflow's run."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        url: str,
        storage_options: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Say whose release.

        Args:
            contract: The parameters block ``contract``.
            credentials: With the key ``con``, a URL.
            url: The release store.
            storage_options: For fsspec.
            metadata: For Kedro-Viz.
        """
        self._contract = Contract.model_validate(contract).name
        self._url: str = credentials["con"]
        self._store = ReleaseStore(url, storage_options)
        self.metadata = metadata

    def load(self) -> DeployedRelease:
        """Fetch the release and its snapshot.

        Raises:
            PrerequisiteError: Nothing is deployed.
            UserError: The release store cannot be used; or the snapshot is not in MLflow any
                more, or is another one.
        """
        with reachable(self._url) as engine, engine.connect() as connection:
            row = deployments.current(connection, self._contract)
        if row is None:
            raise PrerequisiteError(
                f"Nothing of {self._contract} is deployed yet, so there is nothing to monitor: "
                "run `kedro run` first."
            )
        with usable(self._store.url):
            release = self._store.fetch(self._contract, row.release)
        snapshot = read_snapshot(row.run_id, row.release)
        expected = release.manifest.snapshot.sha256
        found = digest(snapshot)
        if found != expected:
            raise UserError(
                f"The snapshot of run {row.run_id} has the digest {found[:12]}…, release "
                f"{row.release} was trained on {expected[:12]}…: it was altered, so the release "
                "cannot be compared with it."
            )
        return DeployedRelease(release, snapshot)

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract, "url": self._store.url}


def read_snapshot(run_id: str, release: str) -> pd.DataFrame:
    """Download the rows that a training run has recorded.

    Raises:
        UserError: The run or its snapshot is gone, or MLflow does not answer.
    """
    from mlflow import MlflowClient

    with temporary_folder() as folder:
        try:
            MlflowClient().download_artifacts(run_id, _SNAPSHOT_FOLDER, folder)
        except Exception as error:  # Each kind of store has its own errors.
            raise UserError(
                f"The training snapshot of release {release} cannot be read from MLflow run "
                f"{run_id}: {reason_of(error)}"
            ) from error
        paths = sorted(Path(folder, _SNAPSHOT_FOLDER).glob("*.parquet"))
        if not paths:
            raise UserError(
                f"MLflow run {run_id} of release {release} has no training snapshot: train and "
                "deploy again with `kedro run`."
            )
        return pd.read_parquet(paths[0])
