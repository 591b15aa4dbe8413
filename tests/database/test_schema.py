"""The tables: made once, by whoever comes first, and as the code describes them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.engine import make_url

from mlops_for_mle.config import mlflow_tracking_uri
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for, lock, normalise_url, try_lock
from mlops_for_mle.database.schema import (
    ensure_observations,
    mlflow_store_url,
    prepare,
    require_tables,
    upgrade,
)
from mlops_for_mle.database.tables import metadata
from mlops_for_mle.errors import ConfigurationError, UserError
from tests.mixed import MIXED_CONTRACT
from tests.servers import connection_to, query, scalar


def test_several_that_make_the_tables_at_once_make_what_the_code_describes_once(
    empty_database, contract
):
    with pytest.raises(UserError, match="run `kedro run` or `kedro db upgrade` first"):
        require_tables(empty_database)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: prepare(empty_database, contract), range(4)))
    require_tables(empty_database)
    # The tutorial's.
    assert columns_of(empty_database, "iris_data") == {
        "id": ("integer", "NO"),
        "timestamp": ("timestamp without time zone", "YES"),
        **dict.fromkeys(contract.features, ("double precision", "NO")),
        "target": ("integer", "NO"),
    }
    serial = "SELECT pg_get_serial_sequence('iris_data', 'id')"
    assert scalar(empty_database, serial) == "public.iris_data_id_seq"
    query(empty_database, "DROP TABLE iris_data")
    with connection_to(empty_database) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def columns_of(url: str, table: str) -> dict[str, tuple[str, str]]:
    rows = query(
        url,
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        f"WHERE table_name = '{table}' ORDER BY ordinal_position",
    )
    return {name: (kind, nullable) for name, kind, nullable in rows}


def test_a_changed_contract_says_what_would_change_and_changes_nothing_unasked(own_database_url):
    raw = MIXED_CONTRACT.model_dump()
    features = {name: one for name, one in raw["features"].items() if name != "Usage (GB)"}
    features["select"] = features["select"] | {"missing": "reject", "constant": None}
    before = Contract.model_validate(raw | {"features": features})
    ensure_observations(own_database_url, before)
    query(own_database_url, 'ALTER TABLE "Churn 데이터" ADD COLUMN "100% note" text NOT NULL')
    query(own_database_url, 'ALTER TABLE "Churn 데이터" ALTER "월 요금" TYPE bigint')
    columns = columns_of(own_database_url, MIXED_CONTRACT.table)

    with pytest.raises(UserError) as raised:
        prepare(own_database_url, MIXED_CONTRACT)

    message = str(raised.value)
    for change in (
        'ADD COLUMN "Usage (GB)" DOUBLE PRECISION',
        'ALTER COLUMN "select" DROP NOT NULL',
        'ALTER COLUMN "월 요금" TYPE NUMERIC',
        'ALTER COLUMN "100% note" DROP NOT NULL',
    ):
        assert f'ALTER TABLE "Churn 데이터" {change}' in message
    assert "kedro db upgrade --yes" in message
    assert columns_of(own_database_url, MIXED_CONTRACT.table) == columns

    ensure_observations(own_database_url, MIXED_CONTRACT, may_change=True)
    changed = columns_of(own_database_url, MIXED_CONTRACT.table)
    assert changed["Usage (GB)"] == ("double precision", "YES")
    assert changed["select"] == ("bigint", "YES")
    assert changed["100% note"] == ("text", "YES")
    assert changed["월 요금"] == ("numeric", "YES")
    ensure_observations(own_database_url, MIXED_CONTRACT)

    query(own_database_url, 'ALTER TABLE "Churn 데이터" ALTER COLUMN "select" TYPE text, DROP id')
    with pytest.raises(UserError, match="the key id is missing; column select has the type TEXT, "):
        ensure_observations(own_database_url, MIXED_CONTRACT, may_change=True)
    assert columns_of(own_database_url, MIXED_CONTRACT.table)["select"] == ("text", "YES")


def test_an_upgrade_that_fails_half_way_leaves_no_table(empty_database):
    query(empty_database, "CREATE TABLE deployments (note text)")

    with pytest.raises(Exception, match="already exists"):
        upgrade(empty_database)

    with connection_to(empty_database) as connection:
        assert inspect(connection).get_table_names() == ["deployments"]
    query(empty_database, "DROP TABLE deployments")
    upgrade(empty_database)
    require_tables(empty_database)


@pytest.mark.parametrize("table", ["deployments", "alembic_version", "iris_prediction"])
def test_a_table_of_the_projects_own_cannot_be_the_contracts(contract, table):
    with pytest.raises(UserError, match=f"contract.table: {table} .* such as iris_data"):
        ensure_observations("unused", contract.model_copy(update={"table": table}))


@pytest.fixture
def without_store(external_server, external_url) -> Iterator[str]:
    """A database on a server that has none for MLflow."""
    store = make_url(external_url).set(database="mlflow").render_as_string(hide_password=False)
    external_server.drop_database(store)
    yield external_url
    external_server.drop_database(store)


def test_mlflows_store_is_made_once_and_one_of_an_older_mlflow_is_upgraded(without_store):
    from mlflow import MlflowClient
    from mlflow.store.db.utils import _get_alembic_config

    with ThreadPoolExecutor(3) as pool:
        (store,) = set(pool.map(lambda _: mlflow_store_url(without_store), range(3)))
    client = MlflowClient(store)
    assert client.get_run(client.create_run("0").info.run_id).info.status == "RUNNING"

    configuration = _get_alembic_config(store)
    script, version = ScriptDirectory.from_config(configuration), "TABLE alembic_version"
    newest = scalar(store, version)
    older = script.get_revision(newest).down_revision
    with connection_to(store) as connection:
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, older)
        connection.commit()
    assert scalar(store, version) == older

    mlflow_store_url(without_store)

    assert scalar(store, version) == newest == script.get_current_head()


def test_a_login_that_may_not_make_the_store_is_told_what_to_do(without_store, external_server):
    query(external_server.url, "CREATE ROLE guest LOGIN PASSWORD 'secret-word'")
    url = make_url(without_store).set(username="guest", password="secret-word")
    try:
        with pytest.raises(UserError, match="create it, or set MLFLOW_TRACKING_URI") as raised:
            mlflow_store_url(url.render_as_string(hide_password=False))
        engine_for(url.render_as_string(hide_password=False)).dispose()
    finally:
        query(external_server.url, "DROP ROLE guest")
    assert "secret-word" not in str(raised.value)


def test_locks_hold_whatever_a_server_or_a_pooler_does_with_those_who_wait(empty_database):
    database = make_url(empty_database).database
    for setting in (
        "idle_session_timeout TO '200ms'",
        "idle_in_transaction_session_timeout TO '200ms'",
        "default_transaction_isolation TO 'repeatable read'",
    ):
        query(empty_database, f'ALTER DATABASE "{database}" SET {setting}')
    with (
        try_lock(empty_database, "run 1") as held,
        engine_for(empty_database).begin() as connection,
    ):
        lock(connection, "schema")
        time.sleep(1)
        assert try_lock(empty_database, "run 1") is None
        held.rollback()
        # Else a pooler of transactions would keep it with the session.
        try_lock(empty_database, "run 1").close()
        # Who has waited for a lock sees what was written meanwhile.
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


def test_every_usual_form_of_a_url_is_understood_and_another_refused_without_its_password(
    monkeypatch,
):
    for scheme in ("postgresql", "postgresql+psycopg", "postgres"):
        rest = "://owner:p%40%20ss@db:5433/rows?options=-c%20search_path%3Drows"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", scheme + rest)
        assert normalise_url(scheme + rest, "DATABASE_URL") == f"postgresql+psycopg2{rest}"
        assert mlflow_tracking_uri() == f"postgresql+psycopg2{rest}"
    for raw in (
        "mysql://owner:secret-word@db/rows",
        "postgresql://owner:secret-word@db",
        "owner secret-word",
        "postgresql://owner:p@secret-word@db/rows",
    ):
        with pytest.raises(ConfigurationError) as caught:
            normalise_url(raw, "DATABASE_URL")
        expected = "DATABASE_URL: expected postgresql://user:password@host:port/database"
        assert str(caught.value).startswith(expected)
        assert "secret-word" not in str(caught.value)
