"""Every type of a Postgres column and every kind of relation: read as it is, or named."""

from collections.abc import Iterator

import pandas as pd
import pytest
from sqlalchemy.engine import make_url

from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.contract.infer.read import Source, read_database
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.data_ingestion.nodes import Batch
from mlops_for_mle.pipelines.data_ingestion.postgres import PostgresSourceDataset
from tests.pipelines.data_ingestion.observations import batch_of
from tests.servers import DatabaseServer, query

pytestmark = pytest.mark.integration

_TYPES = """
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE DOMAIN share AS numeric(38, 10) CHECK (value >= 0);
CREATE SCHEMA "My.Shop";
CREATE TABLE "My.Shop"."Or.ders" (
    u uuid, colour colour, town varchar(9), code char(5), amount numeric(38, 10), share share,
    double float8 GENERATED ALWAYS AS (amount * 2) STORED, address inet,
    seen timestamptz, local timestamp, day date, until date, ratio float8, score numeric, y int,
    j jsonb, tags text[], price money, pause interval, opens time, closes timetz,
    period int4range, flags bit(3), raw bytea
);
INSERT INTO "My.Shop"."Or.ders" (
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
UPDATE "My.Shop"."Or.ders" SET ratio = 'Infinity', score = 'NaN' WHERE day = '2024-01-11';
UPDATE "My.Shop"."Or.ders" SET local = '0044-03-15 BC', seen = '12024-01-01'
    WHERE day = '2024-01-12';
UPDATE "My.Shop"."Or.ders" SET score = 'Infinity' WHERE day = '2024-01-13'
"""
_LEFT_OUT = {
    "j": "jsonb",
    "tags": "_text",
    "price": "money",
    "pause": "interval",
    "opens": "time",
    "closes": "timetz",
    "period": "int4range",
    "flags": "bit",
    "raw": "bytea",
}


@pytest.fixture
def shop(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database in Korea with a table of all types."""
    url = server.create_database()
    query(url, f"ALTER DATABASE {make_url(url).database} SET timezone TO 'Asia/Seoul'")
    engine_for(url).dispose()
    for statement in _TYPES.split(";\n"):
        query(url, statement)
    monkeypatch.setenv("DATABASE_URL", url)
    yield url
    engine_for(url).dispose()
    server.drop_database(url)


def inferred(source: Source, target: str = "y") -> tuple[Proposal, Batch]:
    """What is proposed, and what ingestion makes of the same rows with it."""
    proposal = propose(source.rows, "c", target, source.described)
    (kind,) = {"table", "query"} & {source.choices["source"]}
    place = {kind: source.choices[f"source_{kind}"]}
    rows = PostgresSourceDataset({"con": "unused"}, **place).load()
    return proposal, batch_of(proposal.contract(), rows, **proposal.ingestion)


def test_every_type_is_read_as_it_is_or_left_out_by_its_name_and_ingested(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATABASE_URL", shop)

    proposal, batch = inferred(read_database("table", "My.Shop.Or.ders", "c"))

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
    assert "SELECT \"j\" ->> 'key'" in told["j"]
    # Rows without what cannot be held, and each of the others with its reason.
    assert len(batch.accepted) == 57
    reasons = "; ".join(batch.rejected["reason"])
    assert len(batch.rejected) == 3
    assert "ratio: is not finite, found inf" in reasons
    assert "seen: is no time, found '12023-12-31 15:00:00+00'" in reasons
    assert "local: is no time, found '0044-03-15 00:00:00 BC'" in reasons
    assert "score: is not finite" in reasons
    first = batch.accepted.iloc[0]
    assert first["amount"] == 0.3333333333
    assert (first["seen"], first["local"]) == (
        pd.Timestamp("2024-03-10 06:30"),
        pd.Timestamp("2024-03-10 01:30"),
    )
    assert first["until"] == pd.Timestamp("2024-01-02")
    assert pd.isna(batch.accepted.iloc[1]["until"])


def test_a_query_reads_what_the_sentence_says(shop: str) -> None:
    table = PostgresSourceDataset({"con": shop}, table="My.Shop.Or.ders").load()
    told = table.attrs["left_out"]
    casts = [reason.partition("such as SELECT ")[2] for reason in told.values()]
    named = ", ".join(f"{cast} AS {name}" for cast, name in zip(casts, _LEFT_OUT, strict=True))

    chosen = f'SELECT {named} FROM "My.Shop"."Or.ders" WHERE day = \'2024-01-05\''
    rows = PostgresSourceDataset({"con": shop}, query=chosen).load()

    assert rows.attrs["left_out"] == {}
    values = [None, "a", 5.0, 86400.0, 9.0, 18.0, 1, 5, 1]
    assert rows.astype(object).where(rows.notna(), None).iloc[0].tolist() == values


def test_whatever_gives_rows_is_read_by_its_name_as_it_is_written(shop: str) -> None:
    query(shop, "CREATE TABLE whole (a int) PARTITION BY RANGE (a)")
    query(shop, "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (9)")
    query(shop, "INSERT INTO whole VALUES (1)")
    query(shop, 'ALTER TABLE whole RENAME TO "Mixed.Case"')
    query(shop, 'CREATE VIEW public."od""d" AS SELECT 1 AS a')
    query(shop, 'CREATE MATERIALIZED VIEW "My.Shop"."T.1" AS SELECT 1 AS a')

    for name in ("Mixed.Case", 'public.od"d', "My.Shop.T.1"):
        assert PostgresSourceDataset({"con": shop}, table=name).load().to_dict("list") == {"a": [1]}
