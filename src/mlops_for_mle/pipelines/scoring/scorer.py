"""A loaded release, and its predictions for rows."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from mlops_for_mle.contract.columns import as_json, check_columns, encode_rows, to_frame
from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions, Predictor, load_predictor
from mlops_for_mle.releases.store import ReleaseStore

# Predictions and rejects.
Scored = tuple[pa.Table, pa.Table]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """A release of a store; another process that is given it loads it for itself, once."""

    store: str
    manifest: Manifest
    predictor: Predictor

    def __reduce__(self) -> tuple[Any, ...]:
        """How a copy is made: it loads the release itself."""
        return load_scorer, (self.store, self.manifest.contract.name, self.manifest.release)

    def score(
        self, rows: pd.DataFrame, notation: Notation | None = None
    ) -> tuple[npt.NDArray[np.intp], Predictions, dict[int, str]]:
        """The positions of the rows that fit, their predictions, and why the others have none."""
        contract = self.manifest.contract
        fitting, rejected = check_columns(rows, contract.features, notation)
        positions = np.delete(np.arange(len(rows)), list(rejected))
        matrix = encode_rows(fitting, contract)
        # Not every graph takes a matrix without rows.
        inputs = matrix if len(matrix) else np.zeros((1, matrix.shape[1]))
        predictions = self.predictor.predict(inputs)
        is_finite = np.isfinite(predictions.values)[: len(matrix)]
        for index in np.flatnonzero(~is_finite):
            rejected[int(positions[index])] = f"the model answers {predictions.values[index]}"
        finite = np.flatnonzero(is_finite)
        return positions[finite], predictions.take(finite), dict(sorted(rejected.items()))

    def values(self, predictions: Predictions) -> list[Any]:
        """The predictions as the table holds them: the values of classes, or numbers."""
        values, classes = predictions.values.tolist(), self.manifest.contract.target.values
        return [classes[code] for code in values] if classes else values

    def score_table(self, rows: pa.Table, first_row: int, notation: Notation) -> Scored:
        """The predictions for some rows of a source, and the rejects."""
        contract, target = self.manifest.contract, self.manifest.contract.target
        features = to_frame(rows.select(list(contract.features)))
        positions, predictions, rejected = self.score(features, notation)
        scored_rows, count = rows.take(pa.array(positions)), len(positions)
        columns = {"row_number": pa.array(positions + first_row, pa.int64())}
        if contract.key in rows.column_names:
            columns[contract.key] = scored_rows[contract.key]
        number_type = pa.int64() if target.classes else pa.float64()
        value_type = pa.string() if target.feature.is_text else number_type
        columns[target.response_name] = pa.array(self.values(predictions), value_type)
        if target.classes:
            labels = [target.labels[code] for code in predictions.values.tolist()]
            columns["label"] = pa.array(labels, pa.string())
        if predictions.probabilities is not None:
            offsets = np.arange(count + 1, dtype=np.int32) * len(target.classes)
            probabilities = predictions.probabilities.ravel()
            columns["probabilities"] = pa.ListArray.from_arrays(offsets, probabilities)
        columns["model_version"] = pa.array(np.full(count, self.manifest.version, np.int32))
        columns["release"] = pa.repeat(self.manifest.release, count)
        rejected_rows = rows.take(pa.array(rejected, pa.int64())).to_pylist()
        rejects = {
            "row_number": pa.array([position + first_row for position in rejected], pa.int64()),
            "reason": pa.array(rejected.values(), pa.string()),
            "row_data": pa.array(map(as_json, rejected_rows), pa.string()),
        }
        return pa.table(columns), pa.table(rejects)


@lru_cache(maxsize=2)
def load_scorer(store: str, contract: str, release: str) -> Scorer:
    """A release that has answered its own example, loaded once a process; else a ReleaseError."""
    fetched = ReleaseStore(store).fetch(contract, release)
    _LOGGER.info("release=%s is loaded", release)
    return Scorer(store, fetched.manifest, load_predictor(fetched))
