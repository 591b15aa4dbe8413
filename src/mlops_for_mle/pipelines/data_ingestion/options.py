"""The parameters of ingestion."""

from pydantic import Field

from mlops_for_mle.contract import Configuration


class IngestionOptions(Configuration):
    """How rows of a source become rows of the contract.

    Attributes:
        rename: The contract's column name for each column that is called otherwise in the source.
        date_formats: How dates and times are written, by the contract's column name, in the
            codes of ``strptime`` such as ``%d.%m.%Y``; ISO 8601 where nothing is said.
        missing_marks: The texts that stand for a missing value, such as ``?``, by the contract's
            column name.
        maximum_rejected_fraction: When more rows than this share are bad, nothing is accepted:
            all rows go to the rejects, because the source rather than a row is wrong.
    """

    source: str = Field(min_length=1)
    rename: dict[str, str] = Field(default_factory=dict)
    date_formats: dict[str, str] = Field(default_factory=dict)
    missing_marks: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    maximum_rejected_fraction: float = Field(default=0.5, ge=0, le=1)
