"""The stack's wiring on real processes: an S3 server, MLflow in front of it, pipelines, API."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.projects import copy_project
from tests.integration.servers import DatabaseServer, eventually, query
from tests.stack.compose_file import PROJECT
from tests.stack.processes import SECRETS, LocalStack
from tests.stack.test_preflight import STRONG

pytestmark = pytest.mark.end_to_end
VIRGINICA = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}

DOWNLOAD = """
import os, sys
import mlflow
print(mlflow.artifacts.download_artifacts(sys.argv[1], dst_path=sys.argv[2]))
"""


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, embedded_server: DatabaseServer
) -> Iterator[LocalStack]:
    """Up, migrated, and the main line has run once."""
    folder = tmp_path_factory.mktemp("stack")
    copy_project(PROJECT, folder)
    found = LocalStack(folder, embedded_server)
    try:
        found.start_s3()
        found.migrate()
        found.migrate()
        found.start_mlflow()
        found.run("pipeline", ["kedro", "run"])
        preflight = [sys.executable, PROJECT / "deploy/bin/preflight.py", folder]
        subprocess.run(preflight, env=STRONG | SECRETS, check=True)
        found.start_api()
        yield found
    finally:
        found.remove()


def test_the_api_answers_by_a_release_that_it_read_from_s3(stack: LocalStack) -> None:
    answer = stack.predict(VIRGINICA)
    assert answer.status_code == 200
    assert answer.json()["iris_class"] == 2
    ready = httpx.get(f"{stack.url('api')}/health/ready").json()
    assert ready["origin"] == "store"
    release = stack.folder / "s3/releases/iris" / ready["release"]
    assert {path.name for path in release.iterdir()} == {"model.onnx", "manifest.json"}


def test_the_api_wants_the_key_of_the_environment(stack: LocalStack) -> None:
    assert httpx.post(f"{stack.url('api')}/predict", json=VIRGINICA).status_code == 401


def test_mlflows_server_puts_artifacts_on_s3_for_clients_without_access_to_it(
    stack: LocalStack, tmp_path: Path
) -> None:
    """Nothing of S3 is in the client's environment: the server does it all."""
    run_id = _run_id(stack)
    environment = {
        name: value
        for name, value in stack.environment("pipeline").items()
        if not name.startswith(("AWS_", "MLFLOW_S3"))
    }
    assert (_download(environment, f"runs:/{run_id}/snapshot", tmp_path) / "snapshot.json").exists()


def test_direct_clients_get_the_same_bytes_from_s3(stack: LocalStack, tmp_path: Path) -> None:
    environment = stack.environment("pipeline")
    run_id = _run_id(stack)
    through_proxy = _download(environment, f"runs:/{run_id}/environment.json", tmp_path)
    (stored,) = (stack.folder / "s3/mlflow").rglob(f"{run_id}/artifacts/environment.json")
    key = stored.relative_to(stack.folder / "s3")
    del environment["MLFLOW_TRACKING_URI"]
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/none.db"
    (tmp_path / "direct").mkdir()
    direct = _download(environment, f"s3://{key}", tmp_path / "direct")
    assert direct.read_bytes() == through_proxy.read_bytes() == stored.read_bytes()


def test_mlflow_counts_its_requests_for_prometheus(stack: LocalStack) -> None:
    text = httpx.get(f"{stack.url('mlflow')}/metrics").text
    assert 'mlflow_http_request_total{method="GET",status="200"}' in text


def test_mlflow_answers_under_no_foreign_name(stack: LocalStack) -> None:
    foreign = httpx.get(
        f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1",
        headers={"Host": "evil.example"},
    )
    named = httpx.get(
        f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1",
        headers={"Host": "mlflow:5000"},
    )
    assert (foreign.status_code, named.status_code) == (403, 200)


def test_no_log_holds_a_secret(stack: LocalStack) -> None:
    for name in ("s3", "mlflow", "api"):
        for secret in (*SECRETS.values(), stack.password()):
            assert secret not in stack.log(name)


def test_predictions_go_on_and_are_kept_while_s3_and_mlflow_are_gone(stack: LocalStack) -> None:
    stack.stop("s3")
    stack.stop("mlflow")
    identity = stack.predict(VIRGINICA).json()["prediction_id"]
    assert stack.stop("api") == 0
    stack.start_api()
    assert httpx.get(f"{stack.url('api')}/health/ready").json()["origin"] == "cache"
    assert stack.predict(VIRGINICA).json()["iris_class"] == 2
    assert eventually(
        lambda: query(
            stack.databases["project"],
            "SELECT 1 FROM predictions WHERE prediction_id = :i",
            i=identity,
        )
    )


def _run_id(stack: LocalStack) -> str:
    ((run_id,),) = query(stack.databases["project"], "SELECT run_id FROM deployments")
    return str(run_id)


def _download(environment: dict[str, str], uri: str, folder: Path) -> Path:
    found = subprocess.run(
        [sys.executable, "-c", DOWNLOAD, uri, folder],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    return Path(found.stdout.splitlines()[-1])
