"""Pure functions of scoring: rows and a release become predictions and rejects."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.scorer import Scored, Scorer


class Part(NamedTuple):
    """Some rows of a source: the number of the first, from 1, and what reads them anywhere."""

    first_row: int
    read: Callable[[], Iterator[pa.Table]]


class Source(NamedTuple):
    """Rows that are too many to hold at once.

    ``parts`` gives parts with some of their columns; there is at least one, if without rows.
    Columns that are ``typed`` hold the database's own text of numbers and times.
    """

    schema: pa.Schema
    parts: Callable[[list[str]], AbstractContextManager[list[Part]]]
    typed: frozenset[str] = frozenset()


class Batch(NamedTuple):
    """Predictions and rejects that are too many to hold at once: ``score`` makes those of a part.

    ``empty`` has their columns; any process may score.
    """

    release: str
    empty: Scored
    parts: AbstractContextManager[list[Part]]
    score: Callable[[Part], Iterator[Scored]]


def score_rows(source: Source, scorer: Scorer, ingestion: Mapping[str, Any]) -> Batch:
    """Have a release score rows, which are named and written as ``ingestion`` says."""
    contract = scorer.manifest.contract
    names = {normalised(name): name for name in source.schema.names}
    # A column that has a name of the contract keeps it, since its own table is a source, too.
    renamed = {new: names[old] for old, new in ingestion.get("rename", {}).items() if old in names}
    available = renamed | names
    if missing := [name for name in contract.features if name not in available]:
        present = ", ".join(source.schema.names)
        raise UserError(f"scoring.source: missing column(s) {', '.join(missing)}; found {present}")
    wanted = (*contract.features, contract.key, contract.timestamp)
    columns = {name: available[name] for name in wanted if name in available}
    typed = {name for name, given_name in columns.items() if given_name in source.typed}
    notation = Notation.model_validate(ingestion, extra="ignore").without(typed)
    empty = scorer.score_table(_named(source.schema.empty_table(), columns), 1, notation)
    parts = source.parts([*dict.fromkeys(columns.values())])
    score = partial(_score_part, scorer, columns, notation)
    return Batch(scorer.manifest.release, empty, parts, score)


def _score_part(
    scorer: Scorer, columns: Mapping[str, str], notation: Notation, part: Part
) -> Iterator[Scored]:
    first_row = part.first_row
    for rows in part.read():
        yield scorer.score_table(_named(rows, columns), first_row, notation)
        first_row += rows.num_rows


def _named(rows: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The columns by the contract's names."""
    return pa.table({name: rows[source_name] for name, source_name in columns.items()})
