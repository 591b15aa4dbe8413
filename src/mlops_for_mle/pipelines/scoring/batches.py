"""Scores all parts of a source, on threads, processes or a cluster, and publishes the outcome."""

import logging
from functools import lru_cache
from threading import Lock
from uuid import uuid4

from sqlalchemy import Connection

from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.pipelines.scoring.nodes import Part, Scorer, Scoring
from mlops_for_mle.pipelines.scoring.options import rejects_beside
from mlops_for_mle.pipelines.scoring.outputs import Attempt, ParquetOutput, Schemas, TableOutput
from mlops_for_mle.releases.deployments import current
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.store import ReleaseStore

Output = ParquetOutput | TableOutput

_LOADING = Lock()
_LOGGER = logging.getLogger(__name__)


def run(scoring: Scoring, output: Output) -> None:
    """Write predictions and rejects in place of those that are there, all of them or nothing."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    options, source = scoring.options, scoring.source
    no_rows = source.schema.empty_table().select(scoring.columns)
    schemas = [table.schema for table in scoring.score(_scorer_of(scoring), no_rows, 1)]
    try:
        output.begin(schemas)
        with source.parts(options.chunk_rows) as parts, options.engine.running():
            # One task a part, all of them known from the start, so that workers may come and go.
            parallel = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")
            done = parallel(delayed(score_part)(scoring, part, output, schemas) for part in parts)
            bar = tqdm(done, "scoring", len(parts), unit="part", leave=False, disable=None)
            attempts = sorted(bar)
        output.publish(attempts, schemas)
    finally:
        output.clear()
    scored, rejected = (sum(one.scored for one in attempts), sum(one.rejected for one in attempts))
    _LOGGER.log(
        logging.WARNING if rejected else logging.INFO,
        "scored=%d rejected=%d release=%s: %s into %s, rejects into %s",
        *(scored, rejected, scoring.release.manifest.release, source.name),
        *(options.output, rejects_beside(options.output)),
    )


def score_part(scoring: Scoring, part: Part, output: Output, schemas: Schemas) -> Attempt:
    """Score one part; any process may, and more than one."""
    scorer, name, scored, rejected = _scorer_of(scoring), uuid4().hex, 0, 0
    with output.writing(name, schemas) as write:
        for rows in scoring.source.read(part, scoring.columns, scoring.options.chunk_rows):
            first = part.first_row + scored + rejected
            predictions, rejects = scoring.score(scorer, rows, first)
            write(predictions, rejects)
            scored += predictions.num_rows
            rejected += rejects.num_rows
    return Attempt(part.first_row, name, scored, rejected)


def deployed(connection: Connection, contract: str) -> str:
    """The release that is deployed.

    Raises:
        PrerequisiteError: There is none.
    """
    found = current(connection, contract)
    if found is None:
        raise PrerequisiteError(f"Contract {contract} was never deployed: run `kedro run` first.")
    return found.release


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


def _scorer_of(scoring: Scoring) -> Scorer:
    store, manifest = scoring.release
    return loaded(store, manifest.contract.name, manifest.release)
