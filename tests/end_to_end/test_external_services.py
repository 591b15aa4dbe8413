"""The same commands on somebody else's PostgreSQL 16 and a real `mlflow server`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.end_to_end.commands import Project, finish
from tests.servers import ExternalPostgres, eventually, free_port, query, status_of

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def external_url(external_server: ExternalPostgres) -> Iterator[str]:
    url = external_server.create_database()
    yield url
    external_server.drop_database(url)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an `mlflow server` with a store and artifacts of its own."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    address = f"http://127.0.0.1:{(port := free_port())}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--port", str(port)),
                *("--backend-store-uri", f"sqlite:///{folder / 'store.db'}"),
                *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
            ],
            cwd=folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
        )
    try:
        assert eventually(lambda: status_of(f"{address}/health") == 200), (
            folder / "log"
        ).read_text()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=90)


@pytest.fixture(scope="module")
def connected(project: Project, external_url: str, tracking_uri: str) -> Project:
    """The project with both external services named in its environment."""
    plain = external_url.replace("+psycopg2", "")
    variables = {"DATABASE_URL": plain, "MLFLOW_TRACKING_URI": tracking_uri}
    return Project(project.folder, variables)


def test_the_whole_line_uses_both_and_starts_no_server_of_its_own(
    connected: Project, external_url: str, tracking_uri: str, tmp_path: Path
) -> None:
    before = query(external_url, "SELECT datname FROM pg_database")
    said = connected.succeed("run").output
    assert "150 in iris_data" in said
    assert "iris-v1-" in said

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    champion = client.get_model_version_by_alias("iris", "champion")
    deployed = query(external_url, "SELECT model_version, run_id FROM deployments")
    assert deployed == [(int(champion.version), champion.run_id)]
    artifacts = {item.path for item in client.list_artifacts(champion.run_id)}
    assert {"snapshot", "decision.json"} <= artifacts
    assert client.get_run(champion.run_id).info.artifact_uri.startswith("mlflow-artifacts:")
    assert query(external_url, "SELECT datname FROM pg_database") == before

    connected.succeed("model", "download", "champion", str(tmp_path / "champion"))
    assert list(tmp_path.rglob("model.onnx"))
    assert not connected.home.exists()
    assert not (connected.folder / "data/mlflow").exists()


def test_the_embedded_server_is_not_there_to_be_started(connected: Project) -> None:
    said = connected.refuse("db", "start")
    assert "DATABASE_URL names an external database" in said
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
