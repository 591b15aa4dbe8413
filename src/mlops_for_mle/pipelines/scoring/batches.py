"""Scores all parts of a source, on threads, processes or a cluster, and publishes the outcome."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from uuid import uuid4

import pyarrow as pa

from mlops_for_mle.pipelines.scoring.nodes import REJECT_SCHEMA, Part, Scorer, Scoring
from mlops_for_mle.pipelines.scoring.options import rejects_beside
from mlops_for_mle.pipelines.scoring.outputs import Attempt, ParquetOutput, TableOutput
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.store import ReleaseStore

Output = ParquetOutput | TableOutput

_LOADING = Lock()
_LOGGER = logging.getLogger(__name__)


def run(scoring: Scoring, output: Output) -> None:
    """Write predictions and rejects in place of those that are there, all of them or nothing."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    options, manifest = scoring.options, scoring.release.manifest
    schemas = (scoring.schema, REJECT_SCHEMA)
    output.begin(schemas)
    try:
        with scoring.source.parts(options.chunk_rows) as parts, options.engine.running():
            # One task a part, all of them known from the start, so that workers may come and go.
            parallel = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")
            done = parallel(delayed(score_part)(scoring, part, output, schemas) for part in parts)
            bar = tqdm(done, "scoring", len(parts), unit="part", leave=False, disable=None)
            attempts = sorted(bar)
        output.publish(attempts, schemas)
    finally:
        output.clear()
    scored = sum(one.scored for one in attempts)
    rejected = sum(one.rejected for one in attempts)
    _LOGGER.info(
        "scored=%d rejected=%d release=%s: %s into %s",
        *(scored, rejected, manifest.release, scoring.source.name, options.output),
    )
    if rejected:
        example = next(one.example for one in attempts if one.rejected)
        _LOGGER.warning(
            "%d row(s) were rejected, see %s; the first is %s",
            *(rejected, rejects_beside(options.output), example),
        )
    elif not scored:
        _LOGGER.warning("%s has no rows", scoring.source.name)


def score_part(
    scoring: Scoring, part: Part, output: Output, schemas: Sequence[pa.Schema]
) -> Attempt:
    """Score one part; any process may, and more than one."""
    release, options = scoring.release, scoring.options
    scorer = loaded(release.store, release.manifest.contract.name, release.manifest.release)
    name, first, scored, rejected, example = uuid4().hex, part.first_row, 0, 0, ""
    with output.writing(name, schemas) as write:
        for rows in scoring.source.read(part, scoring.columns, options.chunk_rows):
            predictions, rejects = scoring.score(scorer, rows, first)
            write(predictions, rejects)
            if rejects.num_rows and not example:
                example = f"row {rejects['row_number'][0]}: {rejects['reason'][0]}"
            first += rows.num_rows
            scored += predictions.num_rows
            rejected += rejects.num_rows
    return Attempt(part.number, name, scored, rejected, example)


def loaded(store: str, contract: str, release: str) -> Scorer:
    """A release that has answered its own example; loaded once a process.

    Raises:
        ReleaseError: It is not there, incomplete, altered or answers wrongly.
    """
    with _LOADING:
        return _load(store, contract, release)


@lru_cache(maxsize=2)
def _load(store: str, contract: str, name: str) -> Scorer:
    release = ReleaseStore(store).fetch(contract, name)
    return Scorer(release.manifest, load(release))
