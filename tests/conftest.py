"""What the tests share: a real server, a fresh database for each test, the shipped contract."""

import shutil
import ssl
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import make_url

from mlops_for_mle.contract import Contract
from mlops_for_mle.database import embedded
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import prepare
from tests import PROJECT
from tests.projects import copy_project
from tests.servers import (
    DatabaseServer,
    ExternalPostgres,
    query,
    reachable_folder,
    remove_embedded,
    scalar,
)

# The same examples each time, in whatever time; `--hypothesis-profile default` looks for new ones.
settings.register_profile(
    "suite",
    derandomize=True,
    max_examples=25,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")

# httpx reads all certificates for each client, which takes longer than most requests.
ssl.create_default_context = cache(ssl.create_default_context)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what asks for a server; the slowest first, so that workers end together."""
    servers = {"embedded_server", "external_server", "server"}
    for item in items:
        if servers & {*getattr(item, "fixturenames", ())}:
            item.add_marker("integration")
    slow = ("end_to_end", "integration")
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in slow])


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The contract that the project ships."""
    raw = yaml.safe_load((PROJECT / "conf/base/contract.yml").read_text("utf-8"))
    return Contract.model_validate(raw["contract"])


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[DatabaseServer]:
    """One embedded PostgreSQL 18 for the whole session."""
    folder = reachable_folder("embedded-server-")
    home = folder / "postgres"
    server = DatabaseServer(embedded.acquire(home).url("mlops"))
    # Nobody pulls the plug of a test.
    for statement in ("ALTER SYSTEM SET fsync TO off", "SELECT pg_reload_conf()"):
        server.run(statement)
    yield server
    remove_embedded(home)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def external_server() -> Iterator[ExternalPostgres]:
    """One PostgreSQL 16 of somebody else for the whole session."""
    server = ExternalPostgres()
    yield server
    server.remove()


@pytest.fixture
def external_url(external_server: DatabaseServer) -> Iterator[str]:
    """The URL of a database of somebody else's, without any table."""
    url = external_server.create_database()
    yield url
    external_server.drop_database(url)


@pytest.fixture(params=["embedded_server", "external_server"], ids=["18", "16"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Each supported end of the range of PostgreSQL versions that can be started here."""
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def empty_database(server: DatabaseServer) -> Iterator[str]:
    """The URL of a database without any table."""
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.fixture(scope="session")
def migrated_template(embedded_server: DatabaseServer, contract: Contract) -> str:
    """The name of a database that has all tables and no row, for copying."""
    url = embedded_server.create_database()
    prepare(url, contract)
    engine_for(url).dispose()
    return str(make_url(url).database)


def _migrated(embedded_server: DatabaseServer, migrated_template: str) -> Iterator[str]:
    """The URL of a database with all tables and no row."""
    url = embedded_server.create_database(migrated_template)
    yield url
    embedded_server.drop_database(url)


# One that the tests of a module share, and one for a test that changes more than rows.
module_database_url = pytest.fixture(scope="module")(_migrated)
own_database_url = pytest.fixture(_migrated)


@pytest.fixture
def database_url(module_database_url: str) -> str:
    """The database of the module, whose tables are empty."""
    tables = (
        "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables "
        "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    names = scalar(module_database_url, tables)
    query(module_database_url, f"TRUNCATE {names} RESTART IDENTITY CASCADE")
    return module_database_url


@pytest.fixture(scope="module")
def project_folder() -> Iterator[Path]:
    """A throw-away Kedro project with the shipped configuration, shared by a module's tests."""
    folder = reachable_folder("project-")
    copy_project(PROJECT, folder)
    yield folder
    shutil.rmtree(folder)
