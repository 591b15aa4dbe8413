"""What batch scoring reads and writes: rows of any source, a release, predictions."""

from typing import Any

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.dataset import ProjectDataset
from mlops_for_mle.pipelines.scoring.batches import run
from mlops_for_mle.pipelines.scoring.nodes import Batch, Source
from mlops_for_mle.pipelines.scoring.options import ScoringOptions, place_of
from mlops_for_mle.pipelines.scoring.scorer import Scorer, loaded
from mlops_for_mle.pipelines.scoring.sources import database_source, parquet_source
from mlops_for_mle.releases.deployments import deployed


class _ScoringDataset(ProjectDataset):
    """An entry that the parameters block ``scoring`` names."""

    def __init__(
        self,
        scoring: dict[str, Any],
        contract: dict[str, Any],
        credentials: dict[str, Any],
        store: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take two blocks of parameters, the database as ``con``, and the release store's URL."""
        self._options = ScoringOptions.model_validate(scoring)
        shown = self._options.model_dump(include={"source", "release", "output"})
        super().__init__(metadata, **shown)
        self._contract = Contract.model_validate(contract)
        self._url: str = credentials["con"]
        self._store = store


class SourceDataset(_ScoringDataset):
    """Names the rows that a batch scores; they are read while they are scored."""

    def load(self) -> Source:
        """Look at the columns; no row is read yet."""
        source = self._options.source or self._contract.table
        is_file = place_of(source) == "file"
        return parquet_source(source) if is_file else database_source(self._url, source)


class ScoringReleaseDataset(_ScoringDataset):
    """The release that is deployed, or the one that the parameters name."""

    def load(self) -> Scorer:
        """Load it.

        Raises:
            PrerequisiteError: Nothing is deployed and no release is named.
            ReleaseError: It is not in the store, or not whole.
        """
        contract = self._contract.name
        with engine_for(self._url).connect() as connection:
            release = self._options.release or deployed(connection, contract).release
        return loaded(self._store, contract, release)


class PredictionsDataset(_ScoringDataset):
    """Scores rows while it writes their predictions, and keeps the rejects beside them."""

    def save(self, data: Batch) -> None:
        """Replace what is there once all rows are scored; after a failure it still is there."""
        run(data, self._url)
