"""Releases and the audit trail of deployments as catalog entries."""

import getpass
import logging
import os
import statistics
import time
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from sqlalchemy import text

from mlops_for_mle import deployments
from mlops_for_mle.database import reachable
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import PrerequisiteError, ReleaseError
from mlops_for_mle.foreign_errors import usable
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.records import Deployment, NothingToDeploy
from mlops_for_mle.release import Manifest, Release, ReleaseStore

_PROBE_CALLS = 50

_LOGGER = logging.getLogger(__name__)


class ReleaseDataset(AbstractDataset[Release | NothingToDeploy, Manifest | NothingToDeploy]):
    """Verifies and publishes releases; loading gives the manifest of what was verified."""

    # It remembers what it has verified.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        url: str,
        maximum_latency_ms: float = 50.0,
        storage_options: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the store.

        Args:
            url: A local folder or any URL that fsspec opens.
            maximum_latency_ms: The median of one-row answers must stay below it.
            storage_options: For fsspec.
            metadata: For Kedro-Viz.
        """
        self._store = ReleaseStore(url, storage_options)
        self._maximum_latency_ms = maximum_latency_ms
        self._verified: Manifest | NothingToDeploy | None = None
        self.metadata = metadata

    def save(self, data: Release | NothingToDeploy) -> None:
        """Verify the release, publish it, and verify what the store gives back.

        Raises:
            ReleaseError: It does not answer its own example as the trained model did, or is too
                slow; then nothing was published.
            UserError: The store cannot be used.
        """
        if isinstance(data, NothingToDeploy):
            self._verified = data
            return
        manifest = data.manifest
        latency = verify_release(data, self._maximum_latency_ms)
        with usable(self._store.url):
            is_new = self._store.publish(data)
            stored = self._store.fetch(manifest.contract.name, manifest.release)
        Predictor(stored)
        self._verified = stored.manifest
        _LOGGER.info(
            "release=%s %s: example answered, median latency %.3f ms",
            manifest.release,
            "published" if is_new else "is in the store already",
            latency,
        )

    def load(self) -> Manifest | NothingToDeploy:
        """The manifest of the release that this session verified."""
        if self._verified is None:
            raise PrerequisiteError(
                "No release was built: run `kedro run --pipeline deployment` as a whole."
            )
        return self._verified

    def _describe(self) -> dict[str, Any]:
        return {"url": self._store.url}


class DeploymentDataset(AbstractDataset[Deployment | NothingToDeploy, Any]):
    """Appends to the audit trail that servers follow."""

    def __init__(self, credentials: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Take credentials with the key ``con``, a URL."""
        self._url: str = credentials["con"]
        self.metadata = metadata

    def save(self, data: Deployment | NothingToDeploy) -> None:
        """Append a row, unless that release is served already."""
        if isinstance(data, NothingToDeploy):
            _LOGGER.warning("nothing deployed: %s", data.reason)
            return
        if record_deployment(self._url, data):
            _LOGGER.info("release=%s deployed (%s)", data.release, data.reason)
        else:
            _LOGGER.info("release=%s is deployed already", data.release)

    def load(self) -> Any:
        """The audit trail as a frame, the newest row first."""
        import pandas as pd

        with reachable(self._url) as engine, engine.connect() as connection:
            return pd.read_sql_query(
                text("SELECT * FROM deployments ORDER BY id DESC LIMIT 1000"), connection
            )

    def preview(self, nrows: int = 10) -> TablePreview:
        """The newest rows, for Kedro-Viz."""
        rows = self.load().head(nrows).astype(str)
        return TablePreview(rows.to_dict(orient="split"))

    def _describe(self) -> dict[str, Any]:
        return {"table": "deployments"}


def verify_release(release: Release, maximum_latency_ms: float) -> float:
    """Load a release, let it answer its example, and time answers of one row.

    Returns:
        The median latency in milliseconds.

    Raises:
        ReleaseError: It answers wrongly or too slowly.
    """
    predictor = Predictor(release)
    row = encoding_of(release.manifest.contract).rows(release.manifest.example.rows[:1])
    durations = []
    for _ in range(_PROBE_CALLS):
        begin = time.perf_counter()
        predictor.predict(row)
        durations.append((time.perf_counter() - begin) * 1_000)
    median = statistics.median(durations)
    if median > maximum_latency_ms:
        raise ReleaseError(
            f"Release {release.manifest.release} takes {median:.1f} ms for one row; allowed are "
            f"{maximum_latency_ms:.1f} ms (catalog entry release, maximum_latency_ms)."
        )
    return median


def record_deployment(url: str, deployment: Deployment) -> bool:
    """Append a row unless that release is the one that servers follow.

    Returns:
        Whether a row was appended.
    """
    with reachable(url) as engine, engine.begin() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtext(:name))"),
            {"name": f"deployments/{deployment.contract}"},
        )
        served = deployments.current(connection, deployment.contract)
        if served is not None and served.release == deployment.release:
            return False
        deployments.append(connection, actor=_actor(), **deployment.model_dump())
    return True


def _actor() -> str:
    """The name of the person or service that deploys."""
    try:
        return os.environ.get("MLOPS_ACTOR") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
