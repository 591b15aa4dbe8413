"""Pure functions of scoring: rows and a release become predictions and rejects."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.engine import Engine
from mlops_for_mle.pipelines.scoring.scorer import Scored, Scorer

_SUFFIX = ".parquet"


class ScoringOptions(Configuration):
    """What is scored and where the predictions go.

    Attributes:
        source: A table of the project's database, a query that begins with SELECT or WITH, or the
            path in the project or URL of a Parquet file or a folder of them, which ends in
            ``.parquet``; null for the contract's table.
        output: A table, or the path in the project or URL of a folder that ends in ``.parquet``.
            Rows that do not fit the contract go to another one beside it, whose name has
            ``_rejects`` at its end.
        release: The release to score with; null for the one that is deployed.
        chunk_rows: How many rows of a table are one task, and how many of a file are read at once.
        engine: What scores.
    """

    source: str | None = Field(default=None, min_length=1)
    output: str = Field(default="data/07_model_output/predictions.parquet", min_length=1)
    release: str | None = Field(default=None, min_length=1)
    chunk_rows: int = Field(default=50_000, ge=1, le=5_000_000)
    engine: Engine = Engine()

    @property
    def rejects(self) -> str:
        """Where rows go that do not fit the contract."""
        name = self.output.removesuffix(_SUFFIX)
        return f"{name}_rejects{self.output[len(name) :]}"


def location_kind(text: str) -> Literal["table", "query", "file"]:
    """What a source or an output names."""
    if re.match(r"\s*(select|with)\s", text, re.IGNORECASE):
        return "query"
    return "file" if text.endswith(_SUFFIX) else "table"


class Part(NamedTuple):
    """Some rows: the number of the first, from 1, and what reads columns of them, anywhere."""

    first_row: int
    read: Callable[[list[str]], Iterator[pa.Table]]


class Source(NamedTuple):
    """Rows that are too many to hold at once; there is at least one part, if without rows.

    The columns ``database_text`` hold the text of numbers and times as the database writes it.
    """

    schema: pa.Schema
    parts: AbstractContextManager[list[Part]]
    database_text: frozenset[str] = frozenset()


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
    # In a run with data_ingestion, Kedro gives the class that this has for the block.
    contract, options = scorer.manifest.contract, dict(ingestion)
    names = {normalised(name): name for name in source.schema.names}
    # A column that has a name of the contract keeps it, since its own table is a source, too.
    renamed = {new: names[old] for old, new in options.get("rename", {}).items() if old in names}
    available = renamed | names
    if missing := [name for name in contract.features if name not in available]:
        present = ", ".join(source.schema.names)
        raise UserError(f"scoring.source: missing column(s) {', '.join(missing)}; found {present}")
    wanted = (*contract.features, contract.key)
    columns = {name: available[name] for name in wanted if name in available}
    as_text = {name for name, given_name in columns.items() if given_name in source.database_text}
    notation = Notation.model_validate(options, extra="ignore").without(as_text)
    empty = scorer.score_table(_named(source.schema.empty_table(), columns), 1, notation)
    score = partial(_score_part, scorer, columns, notation)
    return Batch(scorer.manifest.release, empty, source.parts, score)


def _score_part(
    scorer: Scorer, columns: Mapping[str, str], notation: Notation, part: Part
) -> Iterator[Scored]:
    first_row = part.first_row
    for rows in part.read([*dict.fromkeys(columns.values())]):
        yield scorer.score_table(_named(rows, columns), first_row, notation)
        first_row += rows.num_rows


def _named(rows: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The columns by the contract's names."""
    return pa.table({name: rows[source_name] for name, source_name in columns.items()})
