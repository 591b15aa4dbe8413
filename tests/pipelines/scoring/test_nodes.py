"""What is done to rows, without a database or a file."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.nodes import Part, ScoringOptions, Source, score_rows
from mlops_for_mle.pipelines.scoring.scorer import Scored, Scorer
from mlops_for_mle.releases.predictor import load
from tests.releases import iris_release

RELEASE = iris_release(3)
SCORER = Scorer("nowhere", RELEASE.manifest, load(RELEASE))


def scored(rows: dict[str, Any], **ingestion: Any) -> list[Scored]:
    """What comes of rows that are read one at a time."""
    table = pa.table(rows)

    def read(columns: list[str]) -> Iterator[pa.Table]:
        return (table.select(columns).slice(number, 1) for number in range(len(table)))

    source = Source(table.schema, nullcontext([Part(7, read)]))
    batch = score_rows(source, SCORER, ingestion)
    with batch.parts as found:
        return [tables for part in found for tables in batch.score(part)]


def test_names_and_text_are_read_as_ingestion_reads_them():
    rows = {
        "sepal_length": ["5,1 cm", "6,7 cm", "?"],
        # Written with a combining mark, as file systems of macOS do.
        "Bre\u0301ite": ["3,5", "3,3", "3,0"],
        "petal_length": ["1.4", "5.7", "1.0"],
        "petal_width": ["0,2", "2,1", "0,2"],
        "timestamp": ["31.01.2026", "01.02.2026", "02.02.2026"],
    }
    found = scored(
        rows,
        source="iris.csv",
        rename={"Br\u00e9ite": "sepal_width", "timestamp": "petal_length"},
        decimal="comma",
        missing_marks={"sepal_length": ["?"]},
        number_formats={"sepal_length": {"decimal": ",", "unit": "cm"}, "petal_length": {}},
        date_formats={"timestamp": "%d.%m.%Y"},
    )

    predictions, rejects = (pa.concat_tables(tables) for tables in zip(*found, strict=True))
    assert predictions["row_number"].to_pylist() == [7, 8]
    assert predictions["label"].to_pylist() == ["setosa", "virginica"]
    assert [str(one) for one in predictions["timestamp"].to_pylist()] == [
        "2026-01-31 00:00:00",
        "2026-02-01 00:00:00",
    ]
    assert rejects["reason"].to_pylist()[0].startswith("sepal_length: is missing")


def test_a_source_that_lacks_a_column_is_refused():
    with pytest.raises(UserError, match=r"missing column\(s\) sepal_width, petal.*; found sepal_l"):
        scored({"sepal_length": [5.1]})


@pytest.mark.parametrize("scheduler", ["dask", "tcp://", "spark://host:7077", ""])
def test_an_engine_is_threads_processes_or_an_address(scheduler):
    with pytest.raises(ValidationError, match=r"engine\.scheduler"):
        ScoringOptions.model_validate({"engine": {"scheduler": scheduler}})
