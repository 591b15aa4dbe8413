"""The release that a batch is scored with, as a catalog entry."""

from typing import Any

from mlops_for_mle import deployments
from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import reachable
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.foreign_errors import usable
from mlops_for_mle.release import Release, ReleaseStore
from mlops_for_mle.scoring.batch_options import ScoringOptions


class ScoringReleaseDataset(ReadOnlyDataset[Release]):
    """Fetches the release that is deployed, or the one that the parameters name."""

    def __init__(
        self,
        contract: dict[str, Any],
        scoring: dict[str, Any] | None,
        credentials: dict[str, Any],
        url: str,
        storage_options: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Say which release.

        Args:
            contract: The parameters block ``contract``.
            scoring: The parameters block ``scoring``.
            credentials: With the key ``con``, a URL.
            url: The release store.
            storage_options: For fsspec.
            metadata: For Kedro-Viz.
        """
        self._contract = Contract.model_validate(contract).name
        self._named = parse_configuration(ScoringOptions, scoring, "scoring").release
        self._url: str = credentials["con"]
        self._store = ReleaseStore(url, storage_options)
        self.metadata = metadata

    def load(self) -> Release:
        """Fetch it and check its digest.

        Raises:
            PrerequisiteError: Nothing is deployed and no release is named.
            ReleaseError: It is not in the store, incomplete or altered.
            UserError: The store cannot be used.
        """
        release = self._named or self._deployed()
        with usable(self._store.url):
            return self._store.fetch(self._contract, release)

    def _deployed(self) -> str:
        with reachable(self._url) as engine, engine.connect() as connection:
            row = deployments.current(connection, self._contract)
        if row is None:
            raise PrerequisiteError(
                f"Contract {self._contract} was never deployed: run `kedro run` first."
            )
        return row.release

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract, "release": self._named, "url": self._store.url}
