"""The same commands on somebody else's PostgreSQL 16; tests/stack has the whole line on servers."""

import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from tests.end_to_end.commands import Project, finish
from tests.servers import ExternalPostgres, eventually, free_port, status_of

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def external_url(external_server: ExternalPostgres) -> Iterator[str]:
    url = external_server.create_database()
    yield url
    external_server.drop_database(url)


def test_the_embedded_server_is_not_there_to_be_started(
    project: Project, external_url: str
) -> None:
    connected = Project(project.folder, {"DATABASE_URL": external_url})
    assert "DATABASE_URL names an external database" in connected.refuse("db", "start")
    assert not connected.home.exists()


def test_mlflow_away_is_one_sentence(project: Project, external_url: str) -> None:
    variables = {
        "DATABASE_URL": external_url,
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    said = Project(project.folder, variables).refuse("run", "--pipeline", "training")
    assert f"API request to {variables['MLFLOW_TRACKING_URI']}" in said
    assert "Connection refused" in said


def test_mlflows_page_shows_the_store_and_no_argument_shows_its_password(
    project: Project, external_url: str
) -> None:
    plain = external_url.replace("+psycopg2", "")
    password = make_url(plain).password
    assert password
    port = free_port()
    page = f"http://127.0.0.1:{port}/health"
    process = Project(project.folder, {"DATABASE_URL": plain}).start(
        *("mlflow", "ui", "--port", str(port))
    )
    try:
        assert eventually(lambda: status_of(page) == 200)
        arguments = subprocess.run(
            ["ps", "-eww", "-o", "args="], check=True, capture_output=True, text=True
        )
        assert f"--port {port}" in arguments.stdout
        assert password not in arguments.stdout
    finally:
        process.terminate()
    ended = finish(process)
    assert ended.code == 0, ended.text
    assert "Traceback" not in ended.text
    assert "Warning" not in ended.text
    assert eventually(lambda: status_of(page) is None)
