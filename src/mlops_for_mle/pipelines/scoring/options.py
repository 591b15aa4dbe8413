"""The parameters of batch scoring."""

import re
from typing import Literal

from pydantic import Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.pipelines.engine import Engine

_SUFFIX = ".parquet"


class ScoringOptions(Configuration):
    """What is scored and where the predictions go.

    Attributes:
        source: A table of the project's database, a query that begins with SELECT or WITH, or the
            path in the project or URL of a Parquet file or a folder of them, which ends in
            ``.parquet``; None for the contract's table.
        output: A table, or the path in the project or URL of a folder that ends in ``.parquet``.
            Rows that do not fit the contract go to another one beside it, whose name has
            ``_rejects`` at its end.
        release: The release to score with; None for the one that is deployed.
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


def place_of(text: str) -> Literal["table", "query", "file"]:
    """What a source or an output names."""
    if re.match(r"\s*(select|with)\s", text, re.IGNORECASE):
        return "query"
    return "file" if text.endswith(_SUFFIX) else "table"
