"""Scores all parts of a source, on threads, processes or a cluster, and publishes the outcome."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from uuid import uuid4

from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.scoring.nodes import ChosenRelease, Part, Scorer, Scoring
from mlops_for_mle.pipelines.scoring.options import rejects_beside
from mlops_for_mle.pipelines.scoring.outputs import Output, output_of
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.store import ReleaseStore

_LOGGER = logging.getLogger(__name__)


def run(scoring: Scoring, url: str) -> None:
    """Write predictions and rejects in place of those that are there, all of them or nothing.

    ``url`` is that of the database.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    source, release, options, notation = scoring
    contract, schema = release.manifest.contract, source.schema
    told = (name for name in (contract.key, contract.timestamp) if name in schema.names)
    columns = [*contract.features, *told]
    nothing = schema.empty_table().select(columns)
    predictions, rejects = _scorer(release).score_table(nothing, 1, notation)
    beside = rejects_beside(options.output)
    outputs = [
        output_of(options.output, url, predictions.schema),
        output_of(beside, url, rejects.schema),
    ]
    try:
        for one in outputs:
            one.begin()
        with source.parts(options.chunk_rows) as parts, options.engine.running():
            # One task a part, all of them known from the start, so that workers may come and go.
            parallel = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")
            done = parallel(
                delayed(score_part)(f"part-{number:05}", part, columns, release, notation, outputs)
                for number, part in enumerate(parts)
            )
            bar = tqdm(done, "scoring", len(parts), unit="part", leave=False, disable=None)
            attempts, *counts = zip(*bar, strict=True)
        scored, rejected = map(sum, counts)
        with engine_for(url).begin() as connection:
            outputs[1].publish(attempts, rejected, connection)
            outputs[0].publish(attempts, scored, connection)
    finally:
        for one in outputs:
            one.clear()
    _LOGGER.log(
        logging.WARNING if rejected else logging.INFO,
        "scored=%d rejected=%d release=%s: into %s, rejects into %s",
        *(scored, rejected, release.manifest.release, options.output, beside),
    )


def score_part(
    name: str,
    part: Part,
    columns: list[str],
    release: ChosenRelease,
    notation: Notation,
    outputs: Sequence[Output],
) -> tuple[str, int, int]:
    """Score one part; any process may, and more than one.

    Returns:
        What its rows are staged under, and how many are predictions and rejects.
    """
    attempt, counts = f"{name}-{uuid4().hex}", [0, 0]
    with ExitStack() as stack:
        writes = [stack.enter_context(one.writing(attempt)) for one in outputs]
        for rows in part.read(columns):
            tables = _scorer(release).score_table(rows, part.first_row + sum(counts), notation)
            for number, table in enumerate(tables):
                writes[number](table)
                counts[number] += table.num_rows
    return attempt, counts[0], counts[1]


@lru_cache(maxsize=2)
def loaded(store: str, contract: str, release: str) -> Scorer:
    """A release that has answered its own example; loaded once a process.

    Raises:
        ReleaseError: It is not there, incomplete, altered or answers wrongly.
    """
    found = ReleaseStore(store).fetch(contract, release)
    _LOGGER.info("release=%s is loaded", release)
    return Scorer(found.manifest, load(found))


def _scorer(release: ChosenRelease) -> Scorer:
    return loaded(release.store, release.manifest.contract.name, release.manifest.release)
