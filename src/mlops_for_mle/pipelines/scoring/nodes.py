"""Pure functions of scoring: rows and a release become predictions and rejects."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.scorer import Scored, Scorer


class Part(NamedTuple):
    """Some rows of a source: the number of the first, from 1, and what reads them anywhere."""

    first_row: int
    read: Callable[[], Iterator[pa.Table]]


class Source(NamedTuple):
    """Rows that are too many to hold at once.

    ``parts`` divides some of their columns; there is at least one part, if without rows.
    """

    schema: pa.Schema
    parts: Callable[[list[str]], AbstractContextManager[list[Part]]]


class Batch(NamedTuple):
    """Predictions and rejects that are too many to hold at once: ``score`` makes those of a part.

    ``empty`` has their columns; any process may score.
    """

    release: str
    empty: Scored
    parts: AbstractContextManager[list[Part]]
    score: Callable[[Part], Iterator[Scored]]


def score_rows(source: Source, scorer: Scorer, ingestion: Mapping[str, Any]) -> Batch:
    """Have a release score rows, whose text is written as ``ingestion`` says."""
    contract, names = scorer.manifest.contract, source.schema.names
    if missing := [name for name in contract.features if name not in names]:
        raise UserError(
            f"scoring.source: missing column(s) {', '.join(missing)}; found {', '.join(names)}"
        )
    told = (name for name in (contract.key, contract.timestamp) if name in names)
    columns, notation = [*contract.features, *told], Notation.of(ingestion)
    empty = scorer.score_table(source.schema.empty_table().select(columns), 1, notation)
    score = partial(_score_part, scorer, notation)
    return Batch(scorer.manifest.release, empty, source.parts(columns), score)


def _score_part(scorer: Scorer, notation: Notation, part: Part) -> Iterator[Scored]:
    first_row = part.first_row
    for rows in part.read():
        yield scorer.score_table(rows, first_row, notation)
        first_row += rows.num_rows
