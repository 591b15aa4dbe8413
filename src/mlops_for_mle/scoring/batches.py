"""Scoring of tables and files of any size: chunk by chunk, so that memory stays the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from mlops_for_mle.errors import ConfigurationError, SourceError
from mlops_for_mle.release import Manifest, Release
from mlops_for_mle.scoring.row_json import row_as_json

if TYPE_CHECKING:
    from mlops_for_mle.scoring.row_scorer import ScoredRows

REJECT_SCHEMA = pa.schema(
    [("row_number", pa.int64()), ("reason", pa.string()), ("row_data", pa.string())]
)


class RowSource(Protocol):
    """Rows that are too many to hold at once.

    Attributes:
        name: Where they come from, for people.
        schema: All columns with their types.
    """

    name: str
    schema: pa.Schema

    def row_count(self) -> int | None:
        """How many rows there are; None where counting would take as long as reading."""

    def chunks(self, columns: Sequence[str], row_limit: int) -> Iterator[pa.Table]:
        """Read some columns of all rows, at most so many rows at a time."""


@dataclass(frozen=True)
class ScoredChunk:
    """Some rows of a source: their predictions, and those that were rejected.

    Attributes:
        predictions: In the schema of the batch.
        rejected: In ``REJECT_SCHEMA``; ``row_data`` is JSON.
    """

    predictions: pa.Table
    rejected: pa.Table

    def __len__(self) -> int:
        """How many rows of the source it covers."""
        return int(self.predictions.num_rows + self.rejected.num_rows)


@dataclass(frozen=True)
class ScoredBatch:
    """A source with what scores it; the work is done while it is iterated over, once or again.

    Attributes:
        source: The rows.
        release: What scores them.
        kept: Columns of the source that stand beside the predictions.
        chunk_rows: At most so many rows at a time.
    """

    source: RowSource
    release: Release = field(repr=False)
    kept: tuple[str, ...]
    chunk_rows: int

    @property
    def manifest(self) -> Manifest:
        """The manifest of the release."""
        return self.release.manifest

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
        target, names = self.manifest.contract.target, self.source.schema.names
        wanted = [*self.manifest.contract.feature_names, *self.kept]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise SourceError(
                f"{self.source.name}: missing column(s) {', '.join(missing)}; release "
                f"{self.manifest.release} needs them; found {', '.join(names) or 'none'}"
            )
        is_classifier = target.task == "classification"
        kind = pa.int64() if is_classifier else pa.float64()
        if target.has_text_classes:
            kind = pa.string()
        fields = [
            pa.field("row_number", pa.int64()),
            *(self.source.schema.field(name) for name in self.kept),
            pa.field(target.response_name, kind),
        ]
        if is_classifier:
            fields.append(pa.field("label", pa.string()))
        if self.manifest.model.has_probabilities:
            fields.append(pa.field("probabilities", pa.list_(pa.float64())))
        fields += [pa.field("model_version", pa.int32()), pa.field("release", pa.string())]
        taken = [one.name for one in fields]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"scoring.keep: predictions have a column of their own named {', '.join(twice)}"
            )
        return pa.schema(fields)

    def __iter__(self) -> Iterator[ScoredChunk]:
        """Score chunk after chunk."""
        # Only now, since the registry of pipelines imports this module and onnxruntime is large.
        from mlops_for_mle.predictor import Predictor
        from mlops_for_mle.scoring.row_scorer import RowScorer

        schema, scorer = self.schema, RowScorer(Predictor(self.release))
        features = self.manifest.contract.feature_names
        read = list(dict.fromkeys([*features, *self.kept]))
        first = 1
        for rows in self.source.chunks(read, self.chunk_rows):
            scored = scorer.score(rows.select(features).to_pandas())
            yield ScoredChunk(
                self._predictions(schema, rows, scored, first), _rejects(rows, scored, first)
            )
            first += rows.num_rows

    def _predictions(
        self, schema: pa.Schema, rows: pa.Table, scored: "ScoredRows", first: int
    ) -> pa.Table:
        target, count = self.manifest.contract.target, len(scored)
        chosen = rows.select(self.kept).take(pa.array(scored.positions))
        columns = {
            **{name: chosen[name] for name in self.kept},
            "row_number": scored.positions + first,
            target.response_name: scored.answers,
            "label": scored.labels,
            "model_version": np.full(count, self.manifest.model.version),
            "release": [self.manifest.release] * count,
        }
        if scored.probabilities is not None:
            columns["probabilities"] = list(scored.probabilities)
        return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _rejects(rows: pa.Table, scored: "ScoredRows", first: int) -> pa.Table:
    positions = [one.position for one in scored.rejected]
    raw = rows.take(pa.array(positions, pa.int64())).to_pylist()
    return pa.table(
        {
            "row_number": [position + first for position in positions],
            "reason": [one.reason for one in scored.rejected],
            "row_data": [row_as_json(row) for row in raw],
        },
        schema=REJECT_SCHEMA,
    )
