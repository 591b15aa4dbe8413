"""The parameters of ingestion."""

from pydantic import Field

from mlops_for_mle.contract.model import Name
from mlops_for_mle.contract.notation import Notation


class IngestionOptions(Notation):
    """How rows of a source become rows of the contract.

    Attributes:
        rename: The contract's column name for each column that is called otherwise in the source.
        maximum_rejected_fraction: When more rows than this share are bad, nothing is accepted:
            all rows go to the rejects, because the source rather than a row is wrong.
        drop_missing_target: A row without a target does not count as bad: it goes to the rejects
            as others do, but a file may be mostly of such rows, and one to train on may have some.
    """

    source: str = Field(min_length=1)
    rename: dict[Name, Name] = Field(default_factory=dict)
    maximum_rejected_fraction: float = Field(default=0.5, ge=0, le=1)
    drop_missing_target: bool = False
