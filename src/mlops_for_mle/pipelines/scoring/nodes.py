"""Pure functions of scoring: rows in, predictions and rejects out."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns, encode_rows, read_times
from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.errors import ConfigurationError, SourceError
from mlops_for_mle.pipelines.scoring.options import ScoringOptions
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions, Predictor

REJECT_SCHEMA = pa.schema(
    [("row_number", pa.int64()), ("reason", pa.string()), ("row_data", pa.string())]
)


class Part(NamedTuple):
    """Some rows of a source, which any process can read.

    Attributes:
        number: Its place among the parts.
        first_row: The number of its first row; 1 is the first of the source.
        piece: What the source knows it by.
    """

    number: int
    first_row: int
    piece: Any


class Source(Protocol):
    """Rows that are too many to hold at once; other processes are given it with a part."""

    @property
    def name(self) -> str:
        """Where they come from, for people."""

    @property
    def schema(self) -> pa.Schema:
        """All columns, with the types in which they are kept."""

    def parts(self, size: int) -> AbstractContextManager[list[Part]]:
        """Divide the rows into parts, of so many rows where that can be chosen, at least one."""

    def read(self, part: Part, columns: Sequence[str], size: int) -> Iterator[pa.Table]:
        """Some columns of a part, at most about so many rows at a time."""


class ChosenRelease(NamedTuple):
    """A release in a store, which each worker fetches for itself."""

    store: str
    manifest: Manifest


@dataclass(frozen=True)
class Scored:
    """What became of some rows.

    Attributes:
        positions: For each prediction, where its row stood among the rows that were given.
        answers: The predictions.
        rejected: Why a row has none, by its position.
    """

    positions: npt.NDArray[np.intp]
    answers: Predictions
    rejected: dict[int, str]


@dataclass(frozen=True)
class Scorer:
    """A release that is loaded."""

    manifest: Manifest
    predictor: Predictor

    def score(self, rows: pd.DataFrame) -> Scored:
        """Score the rows that fit the release's contract; each other one is told why."""
        contract = self.manifest.contract
        fitting, rejected = check_columns(
            rows, contract.features, precision=self.manifest.precision
        )
        positions = np.delete(np.arange(len(rows)), list(rejected))
        answered, answers, failures = self._answer(encode_rows(fitting, contract))
        rejected |= {int(positions[row]): reason for row, reason in failures.items()}
        return Scored(positions[answered], answers, dict(sorted(rejected.items())))

    def values(self, answers: Predictions) -> "pd.Series[Any]":
        """The predictions as the table holds them: the values of classes, or numbers."""
        values = pd.Series(answers.values)
        classes = self.manifest.contract.target.values
        return values.map(classes) if classes else values

    def _answer(self, matrix: Matrix) -> tuple[npt.NDArray[np.intp], Predictions, dict[int, str]]:
        """Which rows have a finite answer, the answers, and why the others have none."""
        answered, failures = np.arange(len(matrix)), {}
        try:
            answers = self._predict(matrix)
        except Exception:  # noqa: BLE001  (one row must not hold up the others)
            for row in range(len(matrix)):
                try:
                    self._predict(matrix[row : row + 1])
                except Exception as error:  # noqa: BLE001  (onnxruntime has many kinds)
                    failures[row] = f"the model fails: {error}"
            answered = np.delete(answered, list(failures))
            answers = self._predict(matrix[answered])
        finite = np.isfinite(answers.values)
        for row, value in zip(answered[~finite], answers.values[~finite], strict=True):
            failures[int(row)] = f"the model answers {value}"
        values, probabilities = answers
        chosen = None if probabilities is None else probabilities[finite]
        return answered[finite], Predictions(values[finite], chosen), failures

    def _predict(self, matrix: Matrix) -> Predictions:
        if len(matrix):
            return self.predictor.predict(matrix)
        # Not every kind of model takes a matrix without rows.
        classes = self.manifest.contract.target.classes
        probabilities = np.empty((0, len(classes))) if self.predictor.has_probabilities else None
        values = np.empty(0, np.int64) if classes else np.empty(0, np.float64)
        return Predictions(values, probabilities)


@dataclass(frozen=True)
class Scoring:
    """Rows with what is to score them; the work is done by whoever writes the predictions.

    Attributes:
        source: The rows.
        release: What scores them.
        kept: Columns of the source that stand beside the predictions.
        options: How.
    """

    source: Source
    release: ChosenRelease
    kept: tuple[str, ...]
    options: ScoringOptions

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the predictions.

        ``row_number`` (1 is the first row of the source), the columns that are kept, the
        prediction, its label and the probabilities in the order of the contract's classes where
        there are such, the model's version and the release.

        Raises:
            ConfigurationError: A column that is kept has the name of another one.
            SourceError: The source lacks a column.
        """
        manifest = self.release.manifest
        target, names = manifest.contract.target, self.source.schema.names
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise SourceError(
                f"{self.source.name}: missing column(s) {', '.join(missing)}; release "
                f"{manifest.release} needs them; found {', '.join(names) or 'none'}"
            )
        kind = pa.int64() if target.classes else pa.float64()
        fields = [
            ("row_number", pa.int64()),
            *((name, self.source.schema.field(name).type) for name in self.kept),
            (target.response_name, pa.string() if target.has_text_classes else kind),
            *([("label", pa.string())] if target.classes else []),
            *([("probabilities", pa.list_(pa.float64()))] if manifest.has_probabilities else []),
            ("model_version", pa.int32()),
            ("release", pa.string()),
        ]
        taken = [name for name, _ in fields]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"scoring.keep: predictions have a column of their own named {', '.join(twice)}"
            )
        return pa.schema(fields)

    @property
    def columns(self) -> list[str]:
        """What is read of the source."""
        return list(dict.fromkeys([*self.release.manifest.contract.features, *self.kept]))

    def score(self, scorer: Scorer, rows: pa.Table, first_row: int) -> tuple[pa.Table, pa.Table]:
        """The predictions for some rows, in ``schema``, and the rejects, in ``REJECT_SCHEMA``."""
        manifest = scorer.manifest
        target = manifest.contract.target
        # Whole numbers with gaps would become floats, which do not hold all of them.
        whole = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
        scored = scorer.score(
            rows.select(list(manifest.contract.features)).to_pandas(
                ignore_metadata=True, date_as_object=False, types_mapper=whole.get
            )
        )
        values, probabilities = scored.answers
        chosen, count = rows.take(pa.array(scored.positions)), len(values)
        columns: dict[str, Any] = {
            name: _kept(chosen[name], self.schema.field(name).type) for name in self.kept
        }
        columns |= {
            "row_number": scored.positions + first_row,
            target.response_name: pa.array(scorer.values(scored.answers), from_pandas=True),
            "label": pa.array(pd.Series(values).map(target.labels), pa.string(), from_pandas=True),
            "model_version": np.full(count, manifest.version),
            "release": pa.repeat(manifest.release, count),
        }
        if probabilities is not None:
            ends = np.arange(count + 1, dtype=np.int32) * probabilities.shape[1]
            columns["probabilities"] = pa.ListArray.from_arrays(ends, probabilities.ravel())
        refused = rows.take(pa.array(list(scored.rejected), pa.int64())).to_pylist()
        rejects = {
            "row_number": [position + first_row for position in scored.rejected],
            "reason": list(scored.rejected.values()),
            "row_data": [as_json(row) for row in refused],
        }
        predictions = pa.table({name: columns[name] for name in self.schema.names})
        return predictions.cast(self.schema), pa.table(rejects, schema=REJECT_SCHEMA)


def score_rows(
    source: Source, release: ChosenRelease, contract: Contract, scoring: ScoringOptions
) -> Scoring:
    """Join rows and release; they are scored while the predictions are written.

    Raises:
        ConfigurationError: A column that is to be kept has the name of another one.
        SourceError: The source lacks a column.
    """
    kept = scoring.keep
    if kept is None:
        known = source.schema.names
        kept = tuple(name for name in (contract.key, contract.timestamp) if name in known)
    prepared = Scoring(source, release, kept, scoring)
    # Said now rather than when the first rows are written.
    _ = prepared.schema
    return prepared


def as_json(value: Any) -> str:
    """A value as JSON that ``jsonb`` takes too; what it does not hold stands as text."""
    return json.dumps(_plain(value), default=str, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(str(name)): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return value.replace("\x00", "�").encode("utf-8", "replace").decode()
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else str(value)
    return value


def _kept(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column in the type in which it is kept; null where that cannot hold a value."""
    if column.type == kind or not pa.types.is_string(column.type):
        return column
    text = column.to_pandas()
    if pa.types.is_floating(kind):
        return pa.array(pd.to_numeric(text, errors="coerce"), from_pandas=True)
    return pa.array(read_times(text), from_pandas=True).cast(kind)
