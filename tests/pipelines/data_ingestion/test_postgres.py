"""Tables and queries of a database as sources: read only, as they are, whatever the query says."""

from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from sqlalchemy.engine import make_url

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.infer.propose import propose
from mlops_for_mle.contract.infer.read import read_database
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.data_ingestion.sources import PostgresSourceDataset
from tests.pipelines.data_ingestion.observations import batch_of
from tests.relay import Relay
from tests.servers import eventually, query

_TABLES = """
CREATE TABLE orders (id int, note text);
INSERT INTO orders VALUES (1, 'a'), (2, NULL), (3, '');
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE DOMAIN share AS numeric(38, 10) CHECK (value >= 0);
CREATE SCHEMA "My Shop";
CREATE TABLE "My Shop"."Or.ders" (
    u uuid, colour colour, town varchar(9), code char(5), amount numeric(38, 10), share share,
    double float8 GENERATED ALWAYS AS (amount * 2) STORED, address inet,
    seen timestamptz, local timestamp, day date, until date, ratio float8, score numeric, y int,
    j jsonb, tags text[], price money, pause interval, opens time, closes timetz,
    period int4range, flags bit(3), raw bytea
);
INSERT INTO "My Shop"."Or.ders" (
    u, colour, town, code, amount, share, address, seen, local, day, until, ratio, score, y,
    j, tags, price, pause, opens, closes, period, flags, raw
) SELECT
    ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid,
    (ARRAY['red', 'green'])[1 + n % 2]::colour,
    'Seoul' || n % 4, 'a' || n % 3, n / 3.0, n, '10.0.0.7',
    '2024-03-10 00:30 America/New_York'::timestamptz + n * interval '1 hour',
    '2024-03-10 00:30'::timestamp + n * interval '1 hour', '2024-01-01'::date + n,
    CASE WHEN n % 2 = 0 THEN 'infinity' ELSE '2024-01-01'::date + n END,
    n % 7 + random(), n % 5, (n * 7 % 11 < 5)::int,
    '{"a": 1}', '{a,b}', 5, '1 day', '09:00', '18:00+09', '[1,5)', '101', '\\x00'
FROM generate_series(1, 60) AS n;
UPDATE "My Shop"."Or.ders" SET ratio = 'Infinity', score = 'NaN' WHERE day = '2024-01-11';
UPDATE "My Shop"."Or.ders" SET local = '0044-03-15 BC', seen = '12024-01-01'
    WHERE day = '2024-01-12';
UPDATE "My Shop"."Or.ders" SET score = 'Infinity' WHERE day = '2024-01-13'
"""
_LEFT_OUT = {
    **{"j": "jsonb", "tags": "_text", "price": "money", "pause": "interval", "opens": "time"},
    **{"closes": "timetz", "period": "int4range", "flags": "bit", "raw": "bytea"},
}


@pytest.fixture
def shop(external_url) -> str:
    """A database of somebody else's in Korea."""
    name = make_url(external_url).database
    query(external_url, f"ALTER DATABASE {name} SET timezone TO 'Asia/Seoul'")
    query(external_url, _TABLES)
    return external_url


def rows_of(url: str, **source: Any) -> pd.DataFrame:
    return PostgresSourceDataset({"con": url}, **source).load()


def test_a_query_is_one_select_and_anything_else_is_refused_and_changes_nothing(shop):
    for statement, told in (
        ("SELECT 1; COMMIT; DELETE FROM orders", "cannot open multi-query plan as cursor"),
        ("SELECT 1) TO STDOUT; DELETE FROM orders; COPY (SELECT 2", 'syntax error at or near ")"'),
        ("DELETE FROM orders", "cannot open DELETE query as cursor"),
        ("WITH gone AS (DELETE FROM orders RETURNING id) TABLE gone", "in a read-only transaction"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "before any query"),
    ):
        with pytest.raises(DatasetError) as caught:
            rows_of(shop, query=statement)
        assert told in str(caught.value)
        # Nor is the pool left with a connection that can only read, or could write.
        assert len(rows_of(shop, table="orders")) == 3
    query(shop, "INSERT INTO orders VALUES (4)")


def test_a_table_that_was_written_again_is_the_same_batch(shop):
    query(shop, 'CREATE TABLE "Or ders" (n int, "Part" int, note text, PRIMARY KEY ("Part", n))')
    query(shop, """INSERT INTO "Or ders" SELECT n / 2, n % 2, 'a' FROM generate_series(1, 9) n""")
    before = rows_of(shop, table="Or ders")
    query(shop, 'UPDATE "Or ders" SET note = note WHERE n < 3')

    pd.testing.assert_frame_equal(rows_of(shop, table="Or ders"), before)


def test_a_connection_that_is_lost_half_way_is_told_as_such(shop):
    port = make_url(shop).port
    network = Relay(port or 0)
    Thread(target=_cut_while_copying, args=(network, shop)).start()
    with pytest.raises(DatasetError, match=r"connection was lost|closed the connection"):
        rows_of(
            shop.replace(f":{port}/", f":{network.port}/"),
            query="SELECT repeat('x', 999), CASE n WHEN 9999 THEN pg_sleep(60)::text END "
            "FROM generate_series(1, 9999) AS n",
        )
    network.close()


def _cut_while_copying(network: Relay, url: str) -> None:
    assert eventually(lambda: query(url, "SELECT FROM pg_stat_progress_copy"))
    network.cut()


def test_values_are_those_of_the_server(shop):
    rows = rows_of(
        shop,
        query=r"""
        SELECT 9007199254740993 AS large, NULL::int AS gap, 0.1 + 0.2 AS number, true AS yes,
               9007199254740993::numeric AS account, 'NaN'::numeric AS none,
               '-Infinity'::numeric AS least,
               E'a "b",\n\\.' AS text, '' AS blank, ARRAY[1, 2] AS list, '\x00ff'::bytea AS bytes,
               'infinity'::timestamp AS never, '0044-03-15 BC'::date AS early, 1 AS twice,
               2 AS twice
        FROM generate_series(1, 2)
        """,
    )

    assert rows.iloc[1].tolist() == [
        *(9007199254740993, pd.NA, 0.3, True, "9007199254740993"),
        *(pytest.approx(np.nan, nan_ok=True), -np.inf),
        *('a "b",\n\\.', "", "{1,2}", "\\x00ff"),
        *("infinity", "0044-03-15 BC", 1, 2),
    ]
    assert rows_of(shop, table="orders")["note"].isna().tolist() == [False, True, False]
    # Far longer than most, in the middle of them.
    long = "CASE n WHEN 70000 THEN repeat(E'x\n', 9437184) ELSE E'a\n' || n END"
    rows = rows_of(shop, query=f"SELECT n, {long} AS text FROM generate_series(1, 99999) AS n")
    assert rows["n"].tolist() == [*range(1, 100_000)]
    assert rows["text"].str.len().to_list()[69_998:70_001] == [7, 18 * 2**20, 7]
    assert rows_of(shop, query="SELECT id FROM orders WHERE false").to_dict("list") == {"id": []}


def test_rows_are_the_same_batch_in_every_zone(shop, contract):
    small = Contract.model_validate(contract.model_dump() | {"features": {"x": {}}})
    events = "SELECT '2024-07-01 10:00+09'::timestamptz AS timestamp, 1.0 AS x, 0 AS target"
    batches = []
    for zone in ("Asia/Seoul", "America/New_York"):
        query(shop, f"ALTER DATABASE {make_url(shop).database} SET timezone TO '{zone}'")
        engine_for(shop).dispose()
        batches.append(batch_of(small, rows_of(shop, query=events)))

    assert batches[0].content_sha256 == batches[1].content_sha256
    for batch in batches:
        assert batch.accepted["timestamp"].tolist() == [pd.Timestamp("2024-07-01 01:00")]


def test_every_type_is_read_as_it_is_or_left_out_by_its_name_and_ingested(shop, monkeypatch):
    monkeypatch.setenv("SOURCE_DATABASE_URL", shop)
    source = read_database("table", "My Shop.Or.ders", "c")

    proposal = propose(source.rows, "c", "y", source.name)
    rows = rows_of("unused", table=source.settings["source_table"])
    batch = batch_of(proposal.contract(), rows, **proposal.ingestion)

    features = proposal.contract().features
    assert {name: one.type for name, one in features.items()} == {
        **dict.fromkeys(("u", "colour", "town", "code"), "category"),
        **dict.fromkeys(("amount", "share", "score"), "decimal"),
        **{"double": "float", "ratio": "float"},
        **{"seen": "timestamp", "local": "timestamp", "day": "date", "until": "date"},
    }
    assert features["code"].categories == ("a0", "a1", "a2")
    assert features["colour"].categories == ("green", "red")
    assert features["amount"].maximum < 40
    assert features["until"].missing != "reject"
    assert str(features["until"].latest)[:4] < "2100"
    told = {one.name: str(one.left_out) for one in proposal.left_out}
    assert "same value in every row" in told.pop("address")
    assert {
        name: reason.split("type ")[1].split(",")[0] for name, reason in told.items()
    } == _LEFT_OUT
    # Rows without what cannot be held, and each of the others with its reason.
    assert len(batch.accepted) == 57
    reasons = "; ".join(batch.rejected["reason"])
    assert len(batch.rejected) == 3
    assert "ratio: is not finite, found inf" in reasons
    assert "seen: is no time, found '12023-12-31 15:00:00+00'" in reasons
    assert "local: is no time, found '0044-03-15 00:00:00 BC'" in reasons
    assert "score: is not finite" in reasons
    first, second, *_ = batch.accepted.to_dict("records")
    assert (first["amount"], first["until"]) == (0.3333333333, pd.Timestamp("2024-01-02"))
    assert first["seen"] == pd.Timestamp("2024-03-10 06:30")
    assert first["local"] == pd.Timestamp("2024-03-10 01:30")
    assert pd.isna(second["until"])
    # A query reads what the sentence says.
    casts = [reason.partition("such as SELECT ")[2] for reason in told.values()]
    named = ", ".join(f"{cast} AS {name}" for cast, name in zip(casts, _LEFT_OUT, strict=True))

    chosen = f'SELECT {named} FROM "My Shop"."Or.ders" WHERE day = \'2024-01-05\''
    rows = rows_of(shop, query=f"{chosen} AND 'a' LIKE '%a%'; ")

    assert rows.attrs["left_out"] == {}
    values = [None, "a", 5.0, 86400.0, 9.0, 18.0, 1, 5, 1]
    assert rows.astype(object).where(rows.notna(), None).iloc[0].tolist() == values


def test_whatever_gives_rows_is_read_by_its_name_as_it_is_written(shop):
    query(
        shop,
        """
        CREATE TABLE "Mixed.Case" (a int) PARTITION BY RANGE (a);
        CREATE TABLE part PARTITION OF "Mixed.Case" FOR VALUES FROM (0) TO (9);
        INSERT INTO "Mixed.Case" VALUES (1);
        CREATE VIEW public."od""d" AS SELECT 1 AS a;
        CREATE MATERIALIZED VIEW "My Shop"."T.1" AS SELECT 1 AS a
        """,
    )

    for name in ("Mixed.Case", 'public.od"d', "My Shop.T.1"):
        assert rows_of(shop, table=name).to_dict("list") == {"a": [1]}
