"""Tables and queries of a database as sources: read only, as they are, whatever the query says."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from kedro.io import DatasetError
from sqlalchemy.engine import make_url

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_observations
from mlops_for_mle.pipelines.data_ingestion.datasets import write_batch
from mlops_for_mle.pipelines.data_ingestion.postgres import PostgresSourceDataset
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.data_ingestion.observations import batch_of
from tests.servers import DatabaseServer, query

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(server: DatabaseServer) -> Iterator[str]:
    """A database of somebody else's in Korea, at each end of the supported versions."""
    url = server.create_database()
    query(url, f"ALTER DATABASE {make_url(url).database} SET timezone TO 'Asia/Seoul'")
    query(url, "CREATE TABLE orders (id int, note text)")
    query(url, "INSERT INTO orders VALUES (1, 'a'), (2, NULL), (3, '')")
    yield url
    engine_for(url).dispose()
    server.drop_database(url)


def rows_of(url: str, **source: Any) -> pd.DataFrame:
    return PostgresSourceDataset({"con": url}, **source).load()


def test_a_table_and_a_query_of_another_database_are_sources(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_observations(database_url, MIXED_CONTRACT)
    rows = mixed_rows(20).loc[:, list(MIXED_CONTRACT.columns)]
    write_batch(engine_for(database_url), MIXED_CONTRACT, batch_of(MIXED_CONTRACT, rows))
    monkeypatch.setenv("SOURCE_DATABASE_URL", database_url)
    elsewhere = "postgresql://nobody@127.0.0.1:1/absent"

    for source in (
        {"table": "Churn 데이터"},
        {"table": "public.Churn 데이터"},
        {"query": "SELECT * FROM \"Churn 데이터\" WHERE 'a' LIKE '%a%' ORDER BY id; "},
    ):
        batch = batch_of(MIXED_CONTRACT, rows_of(elsewhere, **source))
        assert batch.rejected.empty
        pd.testing.assert_frame_equal(batch.accepted[list(MIXED_CONTRACT.columns)], rows)


def test_a_query_is_one_select_and_anything_else_is_refused_and_changes_nothing(shop: str) -> None:
    for statement, told in (
        ("SELECT 1; COMMIT; DELETE FROM orders", "cannot open multi-query plan as cursor"),
        ("SELECT 1) TO STDOUT; DELETE FROM orders; COPY (SELECT 2", 'syntax error at or near ")"'),
        ("DELETE FROM orders", "cannot open DELETE query as cursor"),
        ("WITH gone AS (DELETE FROM orders RETURNING id) TABLE gone", "in a read-only transaction"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "before any query"),
        ("SELECT nothing", 'column "nothing" does not exist'),
    ):
        with pytest.raises(DatasetError) as caught:
            rows_of(shop, query=statement)
        assert told in str(caught.value)
        # Nor is the pool left with a connection that can only read, or could write.
        assert len(rows_of(shop, table="orders")) == 3
    query(shop, "INSERT INTO orders VALUES (4)")


def test_values_are_those_of_the_server(shop: str) -> None:
    rows = rows_of(
        shop,
        query=r"""
        SELECT 9007199254740993 AS large, NULL::int AS gap, 0.1 + 0.2 AS number, 'NaN'::numeric,
               0.1::float8 AS float8, true AS yes, E'a "b",\n\\.' AS text, '' AS blank,
               ARRAY[1, 2] AS list, '\x00ff'::bytea AS bytes, '{"a": 1}'::jsonb AS json,
               'infinity'::timestamp AS never, '0044-03-15 BC'::date AS early, 1 AS twice,
               2 AS twice
        FROM generate_series(1, 2)
        """,
    )

    assert rows.iloc[0].tolist()[:3] == [9007199254740993, pd.NA, 0.3]
    assert rows["numeric"].isna().all()
    assert rows.iloc[1].tolist()[4:] == [
        *(0.1, True, 'a "b",\n\\.', "", "{1,2}", "\\x00ff", '{"a": 1}'),
        *("infinity", "0044-03-15 BC", 1, 2),
    ]
    assert rows_of(shop, table="orders")["note"].isna().tolist() == [False, True, False]
    assert rows_of(shop, query="SELECT id FROM orders WHERE false").to_dict("list") == {"id": []}


def test_times_with_a_zone_are_utc_and_the_same_batch_in_every_zone(
    shop: str, contract: Contract
) -> None:
    small = Contract.model_validate(contract.model_dump() | {"features": {"x": {}}})
    events = """
    SELECT at::timestamptz AS timestamp, 1.0 AS x, 0 AS target FROM (VALUES
        ('2024-07-01 10:00:00+09'), ('2024-01-01 10:00:00 America/New_York'), ('infinity')
    ) AS events (at)
    """
    identities = set()
    for zone in ("Asia/Seoul", "America/New_York"):
        query(shop, f"ALTER DATABASE {make_url(shop).database} SET timezone TO '{zone}'")
        engine_for(shop).dispose()

        batch = batch_of(small, rows_of(shop, query=events))

        identities.add(batch.content_sha256)
        assert batch.accepted["timestamp"].tolist() == [
            pd.Timestamp("2024-07-01 01:00"),
            pd.Timestamp("2024-01-01 15:00"),
        ]
        # A time that nobody can hold is one reject.
        assert batch.rejected["row_number"].tolist() == [3]
        assert "timestamp: is no time" in batch.rejected["reason"][0]
    assert len(identities) == 1
