"""Pure functions of scoring: rows and a release become a batch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pyarrow as pa

from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.errors import SourceError
from mlops_for_mle.pipelines.scoring.scorer import Scorer


class Part(NamedTuple):
    """Some rows of a source: the number of the first, from 1, and what reads them anywhere."""

    first_row: int
    read: Callable[[], Iterator[pa.Table]]


class Source(NamedTuple):
    """Rows that are too many to hold at once.

    ``parts`` divides some of their columns by how many rows to read at once. There is at least one
    part, if without rows.
    """

    schema: pa.Schema
    parts: Callable[[list[str], int], AbstractContextManager[list[Part]]]


class Batch(NamedTuple):
    """Rows with what is to score them; the work is done by whoever writes the predictions."""

    source: Source
    columns: list[str]
    scorer: Scorer
    notation: Notation


def score_rows(source: Source, scorer: Scorer, ingestion: Mapping[str, Any]) -> Batch:
    """Join rows and release; they are scored while the predictions are written.

    Text is read as ``ingestion`` says that the contract's columns are written.

    Raises:
        SourceError: The source lacks a feature.
    """
    contract, names = scorer.manifest.contract, source.schema.names
    if missing := [name for name in contract.features if name not in names]:
        raise SourceError(
            f"scoring.source: missing column(s) {', '.join(missing)}; found {', '.join(names)}"
        )
    told = (name for name in (contract.key, contract.timestamp) if name in names)
    return Batch(source, [*contract.features, *told], scorer, Notation.of(ingestion))
