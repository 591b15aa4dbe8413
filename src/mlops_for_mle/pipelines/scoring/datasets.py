"""What batch scoring reads and writes: rows of any source, a release, predictions."""

from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.scoring.batches import Output, deployed, run
from mlops_for_mle.pipelines.scoring.nodes import ChosenRelease, Scoring, Source
from mlops_for_mle.pipelines.scoring.options import place_of
from mlops_for_mle.pipelines.scoring.outputs import ParquetOutput, TableOutput
from mlops_for_mle.pipelines.scoring.sources import database_rows, parquet_rows
from mlops_for_mle.releases.store import ReleaseStore


class SourceDataset(AbstractDataset[None, Source]):
    """Names the rows that a batch scores; they are read while they are scored."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        source: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take ``ScoringOptions.source``, and the database's URL as ``credentials["con"]``."""
        self._source = source or Contract.model_validate(contract).table
        self._url: str = credentials["con"]
        self.metadata = metadata

    def load(self) -> Source:
        """Look at the columns; no row is read yet."""
        if place_of(self._source) == "file":
            return parquet_rows(self._source)
        return database_rows(self._url, self._source)

    def save(self, data: None) -> NoReturn:
        """Not possible."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}


class ScoringReleaseDataset(AbstractDataset[None, ChosenRelease]):
    """The release that is deployed, or the one that the parameters name."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        url: str,
        release: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the release store's URL, and ``ScoringOptions.release``."""
        self._contract = Contract.model_validate(contract).name
        self._named = release
        self._url: str = credentials["con"]
        self._store = url
        self.metadata = metadata

    def load(self) -> ChosenRelease:
        """Read its manifest.

        Raises:
            PrerequisiteError: Nothing is deployed and no release is named.
            ReleaseError: It is not in the store.
        """
        release = self._named
        if release is None:
            with engine_for(self._url).connect() as connection:
                release = deployed(connection, self._contract)
        manifest = ReleaseStore(self._store).manifest(self._contract, release)
        return ChosenRelease(self._store, manifest)

    def save(self, data: None) -> NoReturn:
        """Not possible: the pipeline deployment publishes releases."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract, "release": self._named, "url": self._store}


class PredictionsDataset(AbstractDataset[Scoring, pd.DataFrame]):
    """Scores rows while it writes their predictions, and keeps the rejects beside them."""

    def __init__(
        self, output: str, credentials: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        """Take ``ScoringOptions.output``, and the database's URL as ``credentials["con"]``."""
        self._name, is_file = output, place_of(output) == "file"
        self._output: Output = (
            ParquetOutput(output) if is_file else TableOutput(credentials["con"], output)
        )
        self.metadata = metadata

    def save(self, data: Scoring) -> None:
        """Replace what is there once all rows are scored; after a failure it still is there."""
        run(data, self._output)

    def load(self) -> pd.DataFrame:
        """The predictions, all at once."""
        return self._output.read()

    def _describe(self) -> dict[str, Any]:
        return {"output": self._name}
