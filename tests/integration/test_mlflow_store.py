"""Where the database is, and MLflow's own database beside it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import make_url

from mlops_for_mle.database import engine_for, normalise_url
from mlops_for_mle.database.schema import mlflow_store_url
from mlops_for_mle.errors import ConfigurationError, UserError
from tests.integration.servers import ExternalPostgres, query, scalar

pytestmark = pytest.mark.integration


@pytest.fixture
def without_store(external_server: ExternalPostgres) -> Iterator[str]:
    """A database on a server that has none for MLflow."""
    url = external_server.create_database()
    yield url
    engine_for(url).dispose()
    external_server.drop_database(url)
    store = make_url(url).set(database="mlflow")
    if scalar(external_server.url, "SELECT count(*) FROM pg_database WHERE datname = 'mlflow'"):
        engine_for(store.render_as_string(hide_password=False)).dispose()
        external_server.drop_database(store.render_as_string(hide_password=False))


def test_several_that_need_the_store_at_once_make_it_once(without_store: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        stores = set(pool.map(lambda _: mlflow_store_url(without_store), range(3)))

    (store,) = stores
    assert make_url(store).database == "mlflow"
    from mlflow import MlflowClient

    client = MlflowClient(store)
    assert client.get_run(client.create_run("0").info.run_id).info.status == "RUNNING"


def test_a_login_that_may_not_make_the_store_is_told_what_to_do(
    without_store: str, external_server: ExternalPostgres
) -> None:
    query(external_server.url, "CREATE ROLE guest LOGIN PASSWORD 'secret-word'")
    url = make_url(without_store).set(username="guest", password="secret-word")
    try:
        with pytest.raises(UserError) as raised:
            mlflow_store_url(url.render_as_string(hide_password=False))
        engine_for(url.render_as_string(hide_password=False)).dispose()
    finally:
        query(external_server.url, "DROP ROLE guest")
    assert "create it, or set MLFLOW_TRACKING_URI" in str(raised.value)
    assert "secret-word" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgres"])
def test_every_usual_form_of_a_url_is_understood(scheme: str) -> None:
    found = normalise_url(f"{scheme}://owner:p%40ss@db:5433/rows?sslmode=require", "DATABASE_URL")
    assert found == "postgresql+psycopg2://owner:p%40ss@db:5433/rows?sslmode=require"


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("mysql://owner:secret-word@db/rows", "found the scheme 'mysql'"),
        ("sqlite:///secret-word.db", "found the scheme 'sqlite'"),
        ("postgresql://owner:secret-word@db", "found no database name"),
        ("owner secret-word", "found text that is no URL"),
        ("postgresql://owner:secret-word@db:port/rows", "found text that is no URL"),
    ],
)
def test_another_url_is_refused_without_showing_its_password(raw: str, found: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        normalise_url(raw, "DATABASE_URL")
    message = str(raised.value)
    assert message.startswith("DATABASE_URL: expected postgresql://user:password@host:port")
    assert message.endswith(found)
    assert "secret-word" not in message
