"""Pure functions of scoring: rows in, predictions and rejects out."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from mlops_for_mle.contract.columns import check_columns, encode_rows
from mlops_for_mle.contract.notation import Notation, read_times
from mlops_for_mle.errors import SourceError
from mlops_for_mle.pipelines.scoring.options import ScoringOptions
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions, Predictor

# Whole numbers with gaps would become floats, which do not hold all of them.
_WHOLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


class Part(NamedTuple):
    """Some rows of a source: the number of the first, from 1, and what the source knows them by."""

    first_row: int
    piece: Any


class Source(Protocol):
    """Rows that are too many to hold at once; other processes are given it with a part."""

    @property
    def name(self) -> str:
        """Where they come from, for people."""

    @property
    def schema(self) -> pa.Schema:
        """All columns."""

    def parts(self, size: int) -> AbstractContextManager[list[Part]]:
        """Divide the rows into parts, of so many rows where that can be chosen, at least one."""

    def read(self, part: Part, columns: Sequence[str], size: int) -> Iterator[pa.Table]:
        """Some columns of a part, at most about so many rows at a time."""


class ChosenRelease(NamedTuple):
    """A release in a store, which each worker fetches for itself."""

    store: str
    manifest: Manifest


class Scored(NamedTuple):
    """The predictions for some rows, the position of each one's row, and why others have none."""

    positions: npt.NDArray[np.intp]
    answers: Predictions
    rejected: dict[int, str]


@dataclass(frozen=True)
class Scorer:
    """A release that is loaded."""

    manifest: Manifest
    predictor: Predictor

    def score(self, rows: pd.DataFrame, notation: Notation | None = None) -> Scored:
        """Score the rows that fit the release's contract; each other one is told why."""
        contract = self.manifest.contract
        fitting, rejected = check_columns(
            rows, contract.features, notation, self.manifest.precision
        )
        positions = np.delete(np.arange(len(rows)), list(rejected))
        matrix = encode_rows(fitting, contract)
        # Not every graph takes a matrix without rows.
        given = matrix if len(matrix) else np.zeros((1, matrix.shape[1]))
        answers = self.predictor.predict(given)
        is_finite = np.isfinite(answers.values)[: len(matrix)]
        for row in np.flatnonzero(~is_finite):
            rejected[int(positions[row])] = f"the model answers {answers.values[row]}"
        chosen = np.flatnonzero(is_finite)
        return Scored(positions[chosen], answers.taken(chosen), dict(sorted(rejected.items())))

    def values(self, answers: Predictions) -> list[Any]:
        """The predictions as the table holds them: the values of classes, or numbers."""
        values, classes = answers.values.tolist(), self.manifest.contract.target.values
        return [classes[code] for code in values] if classes else values


@dataclass(frozen=True)
class Scoring:
    """Rows with what is to score them; the work is done by whoever writes the predictions."""

    source: Source
    release: ChosenRelease
    options: ScoringOptions
    notation: Notation = field(default_factory=Notation)

    @property
    def columns(self) -> list[str]:
        """What is read: the features, and the key and the timestamp where they are there."""
        contract = self.release.manifest.contract
        told = (contract.key, contract.timestamp)
        return [*contract.features, *(name for name in told if name in self.source.schema.names)]

    def score(self, scorer: Scorer, rows: pa.Table, first_row: int) -> tuple[pa.Table, pa.Table]:
        """The predictions for some rows, and the rejects.

        Predictions have ``row_number``, the row's key and timestamp, the prediction, its label and
        the probabilities in the order of the contract's classes where there are such, the model's
        version and the release. Rejects have ``row_number``, ``reason`` and the row as JSON.
        """
        manifest, contract = scorer.manifest, scorer.manifest.contract
        target, features = contract.target, list(contract.features)
        positions, answers, rejected = scorer.score(
            rows.select(features).to_pandas(
                ignore_metadata=True, date_as_object=False, types_mapper=_WHOLE.get
            ),
            self.notation,
        )
        chosen, count = rows.take(pa.array(positions)), len(positions)
        columns = {"row_number": pa.array(positions + first_row, pa.int64())}
        for name in self.columns[len(features) :]:
            columns[name] = chosen[name]
            if name == contract.timestamp and pa.types.is_string(chosen[name].type):
                date_format = self.notation.date_formats.get(name)
                times = read_times(chosen[name].to_pandas(), date_format)
                columns[name] = pa.array(times, pa.timestamp("us"), from_pandas=True)
        kind = pa.int64() if target.classes else pa.float64()
        columns[target.response_name] = pa.array(
            scorer.values(answers), pa.string() if target.has_text_classes else kind
        )
        if target.classes:
            labels = [target.labels[code] for code in answers.values.tolist()]
            columns["label"] = pa.array(labels, pa.string())
        if answers.probabilities is not None:
            ends = np.arange(count + 1, dtype=np.int32) * len(target.classes)
            columns["probabilities"] = pa.ListArray.from_arrays(ends, answers.probabilities.ravel())
        columns["model_version"] = pa.array(np.full(count, manifest.version, np.int32))
        columns["release"] = pa.repeat(manifest.release, count)
        refused = rows.take(pa.array(list(rejected), pa.int64())).to_pylist()
        rejects = {
            "row_number": pa.array([position + first_row for position in rejected], pa.int64()),
            "reason": pa.array(rejected.values(), pa.string()),
            "row_data": pa.array([as_json(row) for row in refused], pa.string()),
        }
        return pa.table(columns), pa.table(rejects)


def score_rows(
    source: Source,
    release: ChosenRelease,
    scoring: ScoringOptions,
    ingestion: Mapping[str, Any],
) -> Scoring:
    """Join rows and release; they are scored while the predictions are written.

    Text is read as ``ingestion`` says that the contract's columns are written.

    Raises:
        SourceError: The source lacks a feature.
    """
    names = source.schema.names
    missing = [name for name in release.manifest.contract.features if name not in names]
    if missing:
        raise SourceError(
            f"{source.name}: missing column(s) {', '.join(missing)}; release "
            f"{release.manifest.release} needs them; found {', '.join(names) or 'none'}"
        )
    return Scoring(source, release, scoring, Notation.of(ingestion))


def as_json(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(plain(value), ensure_ascii=False)


def plain(value: Any) -> Any:
    """A value of what JSON and ``jsonb`` hold; everything else stands as text."""
    if isinstance(value, dict):
        return {plain(str(name)): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, str):
        return value.replace("\x00", "�").encode("utf-8", "replace").decode()
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, int) else str(value)
