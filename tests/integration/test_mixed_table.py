"""A table of one's own: every type of column from a source through Postgres to training."""

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from mlops_for_mle import database
from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import frame_digest
from mlops_for_mle.database import engine_for
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.datasets.observations import ObservationWindowDataset
from mlops_for_mle.datasets.postgres_source import PostgresSourceDataset
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.frame_encoding import encode_frame
from mlops_for_mle.validation import ContractValidator
from tests.integration.observations import batch_of
from tests.integration.servers import query, scalar
from tests.mixed import MIXED_CONTRACT, mixed_rows

pytestmark = pytest.mark.integration

# Names that collide where somebody turns them into plain ones.
AWKWARD_CONTRACT = Contract.model_validate(
    {
        "name": "awkward",
        "table": '50% of "it"',
        "features": {name: {} for name in ("a b", "a_b", "a.b", "a%b", ":x", "%s", "(y)", "A B")},
        "target": {"column": "order", "task": "regression", "response_name": "order"},
    }
)


def as_text(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as a CSV file holds them."""
    text = rows.astype("string")
    return text.where(text.notna(), "").astype(object)


def window_of(url: str, contract: Contract) -> pd.DataFrame:
    window = ObservationWindowDataset(contract.model_dump(), {"con": url}).load()
    return ContractValidator(contract.model_dump()).validate(window).rows


@pytest.mark.parametrize("form", ["typed", "text"])
def test_every_type_comes_back_from_the_table_as_it_went_in(database_url: str, form: str) -> None:
    rows = mixed_rows(60).drop(columns="next bill")
    given = rows if form == "typed" else as_text(rows)
    database.ensure_observations(database_url, MIXED_CONTRACT)

    receipt = write_batch(engine_for(database_url), MIXED_CONTRACT, batch_of(MIXED_CONTRACT, given))
    found = window_of(database_url, MIXED_CONTRACT)

    assert (receipt.row_count, receipt.rejected_count) == (60, 0)
    pd.testing.assert_frame_equal(found[list(MIXED_CONTRACT.columns)], rows, check_dtype=True)
    assert frame_digest(found) == frame_digest(window_of(database_url, MIXED_CONTRACT))
    kinds = query(
        database_url,
        'SELECT pg_typeof("월 요금")::text, pg_typeof("is new")::text, pg_typeof("가입일")::text '
        'FROM "Churn 데이터" LIMIT 1',
    )
    assert kinds == [("numeric", "boolean", "date")]


def test_names_that_look_alike_keep_their_values_apart(database_url: str) -> None:
    names = AWKWARD_CONTRACT.columns
    rows = pd.DataFrame([[float(place) for place, _ in enumerate(names)]], columns=list(names))
    database.ensure_observations(database_url, AWKWARD_CONTRACT)

    write_batch(engine_for(database_url), AWKWARD_CONTRACT, batch_of(AWKWARD_CONTRACT, rows))
    found = window_of(database_url, AWKWARD_CONTRACT)

    assert found[list(names)].iloc[0].tolist() == list(range(len(names)))
    assert encode_frame(found, AWKWARD_CONTRACT).shape == (1, 8)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (
            'the "plan"',
            "gold",
            'the "plan": is no known category; known: 기본, plus, it\'s max (add',
        ),
        ('the "plan"', "", 'the "plan": is missing'),
        ("region code", "7", "region code: is no known category; known: 30, 10, 20"),
        ("region code", "x", "region code: not a whole number: 'x'"),
        ("is new", "maybe", "is new: neither true nor false: 'maybe'"),
        ("월 요금", "12,000", "월 요금: not a number: '12,000'"),
        ("가입일", "31/12/2025", "가입일: no ISO 8601 date such as 2026-01-31: '31/12/2025'"),
        ("가입일", "2025-12-31 10:00", "가입일: no ISO 8601 date such as 2026-01-31"),
        ("가입일", "1999-12-31", "가입일: is before 2000-01-01 00:00:00, found 1999-12-31"),
        ("left?", "perhaps", "left?: is none of stays (유지), leaves (해지), found perhaps"),
    ],
)
def test_a_value_that_does_not_fit_is_rejected_with_its_reason(
    column: str, value: str, reason: str
) -> None:
    rows = as_text(mixed_rows(3).drop(columns="next bill"))
    rows.loc[1, column] = value

    batch = batch_of(MIXED_CONTRACT, rows)

    assert batch.rejected["row_number"].tolist() == [2]
    assert batch.rejected["reason"][0].startswith(reason)


def test_dates_of_another_format_are_read_where_the_format_is_told() -> None:
    from mlops_for_mle.pipelines.data_ingestion.nodes import sort_rows
    from tests.unit.conftest import ingestion_options

    rows = as_text(mixed_rows(2).drop(columns="next bill")).assign(가입일="31.12.2025")

    batch = sort_rows(rows, MIXED_CONTRACT, ingestion_options(date_formats={"가입일": "%d.%m.%Y"}))

    assert batch.accepted["가입일"].dt.strftime("%Y-%m-%d").tolist() == ["2025-12-31"] * 2


def test_a_table_and_a_query_of_a_database_are_sources(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.ensure_observations(database_url, MIXED_CONTRACT)
    rows = mixed_rows(20).drop(columns="next bill")
    write_batch(engine_for(database_url), MIXED_CONTRACT, batch_of(MIXED_CONTRACT, rows))
    monkeypatch.setenv("SOURCE_DATABASE_URL", database_url)
    elsewhere = {"con": "postgresql://nobody@127.0.0.1:1/absent"}
    table = PostgresSourceDataset(elsewhere, table="Churn 데이터").load()
    selected = PostgresSourceDataset(
        elsewhere,
        query="SELECT * FROM \"public\".\"Churn 데이터\" WHERE 'a' LIKE '%a%' ORDER BY id",
    ).load()
    qualified = PostgresSourceDataset(elsewhere, table="public.Churn 데이터").load()

    assert len(qualified) == 20
    for found in (table, selected):
        batch = batch_of(MIXED_CONTRACT, found)
        assert batch.rejected.empty
        pd.testing.assert_frame_equal(
            batch.accepted[list(MIXED_CONTRACT.columns)], rows, check_dtype=True
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "absent"}, "source_table: there is no table or view 'absent'"),
        ({"query": "SELECT nothing"}, 'source_query: the database refuses it: column "nothing"'),
        ({"query": "DELETE FROM predictions"}, "a source is only read"),
    ],
)
def test_a_source_that_cannot_be_read_is_told(
    database_url: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        PostgresSourceDataset({"con": database_url}, **options).load()

    assert scalar(database_url, "SELECT count(*) FROM predictions") == 0


def test_a_source_is_a_table_or_a_query() -> None:
    with pytest.raises(ConfigurationError, match="either source_table or source_query"):
        PostgresSourceDataset({"con": ""})


def test_missing_numbers_stay_missing() -> None:
    rows = mixed_rows(50).drop(columns="next bill")

    accepted = batch_of(MIXED_CONTRACT, as_text(rows)).accepted

    assert int(accepted["Usage (GB)"].isna().sum()) == int(rows["Usage (GB)"].isna().sum()) > 0
    assert np.isnan(accepted["Usage (GB)"]).any()
