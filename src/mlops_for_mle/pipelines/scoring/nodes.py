"""What scoring does to rows: a release that is loaded makes predictions and rejects of them."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from mlops_for_mle.contract.columns import as_json, check_columns, encode_rows
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.notation import Notation, read_times
from mlops_for_mle.errors import SourceError
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions, Predictor, load
from mlops_for_mle.releases.store import ReleaseStore

# Whole numbers with gaps would become floats, which do not hold all of them.
_WHOLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}

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
        """What a copy is made of."""
        return loaded, (self.store, self.manifest.contract.name, self.manifest.release)

    def score(
        self, rows: pd.DataFrame, notation: Notation | None = None
    ) -> tuple[npt.NDArray[np.intp], Predictions, dict[int, str]]:
        """The positions of the rows that fit, their predictions, and why the others have none."""
        contract = self.manifest.contract
        fitting, rejected = check_columns(
            rows, contract.features, notation, self.manifest.precision
        )
        positions = np.delete(np.arange(len(rows)), list(rejected))
        matrix = encode_rows(fitting, contract)
        # Not every graph takes a matrix without rows.
        answers = self.predictor.predict(matrix if len(matrix) else np.zeros((1, matrix.shape[1])))
        is_finite = np.isfinite(answers.values)[: len(matrix)]
        for row in np.flatnonzero(~is_finite):
            rejected[int(positions[row])] = f"the model answers {answers.values[row]}"
        chosen = np.flatnonzero(is_finite)
        return positions[chosen], answers.taken(chosen), dict(sorted(rejected.items()))

    def values(self, answers: Predictions) -> list[Any]:
        """The predictions as the table holds them: the values of classes, or numbers."""
        values, classes = answers.values.tolist(), self.manifest.contract.target.values
        return [classes[code] for code in values] if classes else values

    def score_table(self, rows: pa.Table, first_row: int, notation: Notation) -> Scored:
        """The predictions for some rows of a source, and the rejects.

        Predictions have ``row_number``, the row's key and timestamp, the prediction, its label and
        the probabilities in the order of the contract's classes where there are such, the model's
        version and the release. Rejects have ``row_number``, ``reason`` and the row as JSON.
        """
        contract, target = self.manifest.contract, self.manifest.contract.target
        features = rows.select(list(contract.features)).to_pandas(
            ignore_metadata=True, date_as_object=False, types_mapper=_WHOLE.get
        )
        positions, answers, rejected = self.score(features, notation)
        chosen, count = rows.take(pa.array(positions)), len(positions)
        columns = {"row_number": pa.array(positions + first_row, pa.int64())}
        for name in rows.column_names:
            if name in (contract.key, contract.timestamp):
                columns[name] = chosen[name]
            if name == contract.timestamp and not pa.types.is_integer(chosen[name].type):
                times = read_times(chosen[name].to_pandas(), notation.date_formats.get(name))
                columns[name] = pa.array(times, pa.timestamp("us"), from_pandas=True)
        number = pa.int64() if target.classes else pa.float64()
        kind = pa.string() if target.has_text_classes else number
        columns[target.response_name] = pa.array(self.values(answers), kind)
        if target.classes:
            labels = [target.labels[code] for code in answers.values.tolist()]
            columns["label"] = pa.array(labels, pa.string())
        if answers.probabilities is not None:
            ends = np.arange(count + 1, dtype=np.int32) * len(target.classes)
            columns["probabilities"] = pa.ListArray.from_arrays(ends, answers.probabilities.ravel())
        columns["model_version"] = pa.array(np.full(count, self.manifest.version, np.int32))
        columns["release"] = pa.repeat(self.manifest.release, count)
        refused = rows.take(pa.array(rejected, pa.int64())).to_pylist()
        rejects = {
            "row_number": pa.array([position + first_row for position in rejected], pa.int64()),
            "reason": pa.array(rejected.values(), pa.string()),
            "row_data": pa.array(map(as_json, refused), pa.string()),
        }
        return pa.table(columns), pa.table(rejects)


@lru_cache(maxsize=2)
def loaded(store: str, contract: str, release: str) -> Scorer:
    """A release that has answered its own example, loaded once a process; else a ReleaseError."""
    found = ReleaseStore(store).fetch(contract, release)
    _LOGGER.info("release=%s is loaded", release)
    return Scorer(store, found.manifest, load(found))


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
    """Have a release score rows, which are named and written as ``ingestion`` says."""
    contract, notation = scorer.manifest.contract, Notation.of(ingestion)
    found = {normalised(name): name for name in source.schema.names}
    # A column that has a name of the contract keeps it: the contract's own table is a source, too.
    renamed = {new: found[old] for old, new in ingestion.get("rename", {}).items() if old in found}
    known = renamed | found
    if missing := [name for name in contract.features if name not in known]:
        names = ", ".join(source.schema.names)
        raise SourceError(f"scoring.source: missing column(s) {', '.join(missing)}; found {names}")
    wanted = (*contract.features, contract.key, contract.timestamp)
    columns = {name: known[name] for name in wanted if name in known}
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
    return pa.table({name: rows[given] for name, given in columns.items()})
