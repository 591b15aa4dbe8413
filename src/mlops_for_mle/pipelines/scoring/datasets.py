"""What batch scoring reads and writes: rows of any source, a release, predictions."""

import logging
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from mlops_for_mle.contract.notation import Notation
from mlops_for_mle.database.engine import lock
from mlops_for_mle.pipelines.dataset import ContractDataset
from mlops_for_mle.pipelines.scoring.nodes import Batch, Part, Source
from mlops_for_mle.pipelines.scoring.options import ScoringOptions, place_of
from mlops_for_mle.pipelines.scoring.outputs import Output, output_of
from mlops_for_mle.pipelines.scoring.scorer import Scorer, loaded
from mlops_for_mle.pipelines.scoring.sources import database_source, parquet_source
from mlops_for_mle.releases.deployments import deployed

_LOGGER = logging.getLogger(__name__)


class _ScoringDataset(ContractDataset):
    """An entry that the parameters block ``scoring`` names."""

    def __init__(self, scoring: dict[str, Any], store: str, **options: Any) -> None:
        """Take the parameters, and the release store's URL."""
        self._options = ScoringOptions.model_validate(scoring)
        shown = self._options.model_dump(include={"source", "release", "output"})
        super().__init__(**options, **shown)
        self._store = store


class SourceDataset(_ScoringDataset):
    """Names the rows that a batch scores; they are read while they are scored."""

    def load(self) -> Source:
        """Look at the columns; no row is read yet."""
        source = self._options.source or self._contract.table
        is_file = place_of(source) == "file"
        return parquet_source(source) if is_file else database_source(self._url, source)


class ScoringReleaseDataset(_ScoringDataset):
    """The release that is deployed, or the one that the parameters name."""

    def load(self) -> Scorer:
        """Load it.

        Raises:
            PrerequisiteError: Nothing is deployed and no release is named.
            ReleaseError: It is not in the store, or not whole.
        """
        contract = self._contract.name
        with self._engine.connect() as connection:
            release = self._options.release or deployed(connection, contract).release
        return loaded(self._store, contract, release)


class PredictionsDataset(_ScoringDataset):
    """Scores rows while it writes their predictions, and keeps the rejects beside them."""

    def save(self, data: Batch) -> None:
        """Replace what is there once all rows are scored; after a failure it still is there."""
        from joblib import Parallel, delayed
        from tqdm import tqdm

        (source, columns, scorer, notation), options = data, self._options
        names = (options.output, options.rejects)
        empty = scorer.score_table(source.schema.empty_table().select(columns), 1, notation)
        predictions, rejects = outputs = [
            output_of(name, self._url, one.schema) for name, one in zip(names, empty, strict=True)
        ]
        with self._engine.begin() as turn:
            # Two runs at once would take each other's parts away, so one waits for the other,
            # however long that takes.
            lock(turn, f"scoring into {predictions.place}")
            turn.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout TO 0")
            with (
                predictions.staged(),
                rejects.staged(),
                source.parts(columns, options.chunk_rows) as parts,
                options.engine.running(),
            ):
                # All tasks are known from the start, so that workers may come and go.
                tasks = Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")(
                    delayed(score_part)(f"part-{number:05}", part, scorer, notation, outputs)
                    for number, part in enumerate(parts)
                )
                bar = tqdm(tasks, "scoring", len(parts), unit="part", leave=False, disable=None)
                attempts, scored, rejected = zip(*bar, strict=True)
                with self._engine.begin() as connection:
                    rejects.publish(attempts, sum(rejected), connection)
                    predictions.publish(attempts, sum(scored), connection)
        _LOGGER.log(
            logging.WARNING if any(rejected) else logging.INFO,
            "scored=%d rejected=%d release=%s: into %s, rejects into %s",
            *(sum(scored), sum(rejected), scorer.manifest.release, *names),
        )


def score_part(
    name: str, part: Part, scorer: Scorer, notation: Notation, outputs: list[Output]
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
