"""What a batch is to score and where its predictions go."""

from typing import Any

import pytest

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.scoring.batch_options import ScoringOptions, place_of, rejects_beside


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("iris_data", "table"),
        ("other.iris_data", "table"),
        ("selected", "table"),
        ("SELECT * FROM iris_data", "query"),
        ("\n  with a as (select 1) select * from a", "query"),
        ("data/rows.parquet", "file"),
        ("s3://bucket/rows.PARQUET", "file"),
    ],
)
def test_a_text_is_a_table_a_query_or_a_file(text: str, place: str) -> None:
    assert place_of(text) == place


def test_rejects_stand_beside_the_predictions() -> None:
    assert rejects_beside("s3://bucket/out.parquet") == "s3://bucket/out_rejects.parquet"
    assert rejects_beside("other.scores") == "other.scores_rejects"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"output": "SELECT 1"}, "scoring.output: is a query; allowed are a table or a path"),
        ({"source": "a.parquet", "output": "a.parquet"}, "scoring: source and output are the same"),
        ({"source": "t_rejects", "output": "t"}, "scoring: source and output are the same"),
        ({"chunk_rows": 0}, "scoring.chunk_rows: input should be greater than or equal to 1"),
        ({"chunks": 5}, "scoring.chunks: unknown key; allowed: source, output, release, keep"),
    ],
)
def test_a_mistake_is_told_with_its_key(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_configuration(ScoringOptions, raw, "scoring")
    assert str(raised.value).startswith(said)
