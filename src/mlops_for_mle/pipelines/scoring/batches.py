"""Scores all parts of a source, on threads, processes or a cluster, and publishes the outcome."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from uuid import uuid4

from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.scoring.nodes import Batch, Part
from mlops_for_mle.pipelines.scoring.outputs import Output, output_of
from mlops_for_mle.pipelines.scoring.scorer import Scorer

_LOGGER = logging.getLogger(__name__)


def run(batch: Batch, url: str) -> None:
    """Write predictions and rejects in place of those that are there, all of them or nothing.

    ``url`` is that of the database.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    source, columns, scorer, options, notation = batch
    names = (options.output, options.rejects)
    empty = scorer.score_table(source.schema.empty_table().select(columns), 1, notation)
    outputs = [output_of(name, url, one.schema) for name, one in zip(names, empty, strict=True)]
    with ExitStack() as stack:
        for one in outputs:
            stack.enter_context(one.staged())
        parts = stack.enter_context(source.parts(columns, options.chunk_rows))
        stack.enter_context(options.engine.running())
        # One task a part, all of them known from the start, so that workers may come and go.
        done = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")(
            delayed(score_part)(f"part-{number:05}", part, scorer, notation, outputs)
            for number, part in enumerate(parts)
        )
        bar = tqdm(done, "scoring", len(parts), unit="part", leave=False, disable=None)
        attempts, scored, rejected = zip(*bar, strict=True)
        with engine_for(url).begin() as connection:
            outputs[1].publish(attempts, sum(rejected), connection)
            outputs[0].publish(attempts, sum(scored), connection)
    _LOGGER.log(
        logging.WARNING if any(rejected) else logging.INFO,
        "scored=%d rejected=%d release=%s: into %s, rejects into %s",
        *(sum(scored), sum(rejected), scorer.manifest.release, *names),
    )


def score_part(
    name: str, part: Part, scorer: Scorer, notation: Notation, outputs: Sequence[Output]
) -> tuple[str, int, int]:
    """Score one part; any process may, and more than one.

    Returns:
        What its rows are staged under, and how many are predictions and rejects.
    """
    attempt, counts = f"{name}-{uuid4().hex}", [0, 0]
    with ExitStack() as stack:
        writes = [stack.enter_context(one.writing(attempt)) for one in outputs]
        for rows in part.read():
            tables = scorer.score_table(rows, part.first_row + sum(counts), notation)
            for number, table in enumerate(tables):
                writes[number](table)
                counts[number] += table.num_rows
    return attempt, counts[0], counts[1]
