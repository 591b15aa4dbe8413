"""Predictions of a batch as a catalog entry: a table or a Parquet file, all of it or nothing."""

import logging
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from pyarrow import Table

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.datasets.prediction_files import PredictionFiles
from mlops_for_mle.datasets.prediction_tables import PredictionTables
from mlops_for_mle.progress import show_rows
from mlops_for_mle.scoring.batch_options import ScoringOptions, place_of, rejects_beside
from mlops_for_mle.scoring.batches import ScoredBatch

_LOGGER = logging.getLogger(__name__)


class ScoredRowsDataset(AbstractDataset[ScoredBatch, pd.DataFrame]):
    """Scores rows while it writes their predictions, and keeps the rejects beside them."""

    def __init__(
        self,
        scoring: dict[str, Any] | None,
        credentials: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters block ``scoring`` and credentials with the key ``con``, a URL."""
        self._output = parse_configuration(ScoringOptions, scoring, "scoring").output
        self._url: str = credentials["con"]
        self.metadata = metadata

    def save(self, data: ScoredBatch) -> None:
        """Write predictions and rejects, in place of those that are there.

        Until all of them are written, what was there stays; after a failure it still does.

        Raises:
            UserError: The output cannot be written, or a source cannot be read to its end.
        """
        scored, rejected, reason = 0, 0, ""
        with self._place().writing(data.schema) as write, show_rows(data.source.row_count) as count:
            for chunk in data:
                write(chunk)
                count(len(chunk))
                scored += chunk.predictions.num_rows
                if chunk.rejected.num_rows and not reason:
                    reason = _first_reason(chunk.rejected)
                rejected += chunk.rejected.num_rows
        _LOGGER.info(
            "scored=%d rejected=%d release=%s: %s into %s",
            scored,
            rejected,
            data.manifest.release,
            data.source.name,
            self._output,
        )
        if rejected:
            _LOGGER.warning(
                "%d row(s) were rejected, see %s; %s",
                rejected,
                rejects_beside(self._output),
                reason,
            )
        elif not scored:
            _LOGGER.warning("%s has no rows", data.source.name)

    def load(self) -> pd.DataFrame:
        """The predictions, all at once."""
        return self._place().read()

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows, for Kedro-Viz."""
        rows = self._place().read(nrows).astype(str)
        return TablePreview(rows.to_dict(orient="split"))

    def _exists(self) -> bool:
        return self._place().exists()

    def _place(self) -> PredictionFiles | PredictionTables:
        if place_of(self._output) == "file":
            return PredictionFiles(self._output)
        return PredictionTables(self._url, self._output)

    def _describe(self) -> dict[str, Any]:
        return {"output": self._output}


def _first_reason(rejected: Table) -> str:
    first = rejected.slice(0, 1).to_pylist()[0]
    return f"the first is row {first['row_number']}: {first['reason']}"
