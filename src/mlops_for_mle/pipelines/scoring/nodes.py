"""Pure functions of batch scoring."""

from mlops_for_mle.contract import Contract
from mlops_for_mle.release import Release
from mlops_for_mle.scoring.batch_options import ScoringOptions
from mlops_for_mle.scoring.batches import RowSource, ScoredBatch


def score_rows(
    source: RowSource, release: Release, contract: Contract, scoring: ScoringOptions
) -> ScoredBatch:
    """Join rows and release; they are scored while the predictions are written.

    Raises:
        ConfigurationError: A column that is to be kept has the name of another one.
        SourceError: The source lacks a column.
    """
    optional = (contract.key, contract.timestamp)
    kept = scoring.keep
    if kept is None:
        kept = tuple(name for name in optional if name in source.schema.names)
    batch = ScoredBatch(source, release, kept, scoring.chunk_rows)
    # Said now rather than when the first rows are written.
    _ = batch.schema
    return batch
