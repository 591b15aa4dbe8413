"""The stack's wiring on real processes: PostgreSQL with its logins, an S3 server, MLflow, the
pipelines' service and the API, each with the variables of the compose file.
"""

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import psycopg2
import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests.projects import copy_project
from tests.servers import eventually, query, scalar
from tests.stack.compose_file import PROJECT, STRONG
from tests.stack.processes import LocalStack

pytestmark = pytest.mark.end_to_end
VIRGINICA = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}

DOWNLOAD = """
import os, sys
import mlflow
print(mlflow.artifacts.download_artifacts(sys.argv[1], dst_path=sys.argv[2]))
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Up, migrated, and the pipelines' service has deployed."""
    folder = tmp_path_factory.mktemp("stack")
    copy_project(PROJECT, folder)
    found = LocalStack(folder)
    try:
        found.start_s3()
        found.make_databases()
        found.migrate()
        found.migrate()
        found.start_mlflow()
        found.start_pipeline("1s")
        assert eventually(lambda: _monitored(found) >= 1, 180), found.log("pipeline")
        digests = {
            "API_KEY_SHA256": sha256(STRONG["MLOPS_API_KEY"].encode()).hexdigest(),
            "METRICS_KEY_SHA256": sha256(STRONG["METRICS_API_KEY"].encode()).hexdigest(),
        }
        preflight = [PROJECT / "deploy/bin/preflight", folder]
        subprocess.run(preflight, env=found.environment("pipeline") | digests, check=True)
        found.start_api()
        yield found
    finally:
        found.remove()


def test_the_pipelines_run_once_and_then_monitoring_does(stack: LocalStack) -> None:
    before = _monitored(stack)
    assert eventually(lambda: _monitored(stack) > before, 60)
    assert _deployed(stack) == ["deploy"]
    assert stack.is_healthy("pipeline", PIPELINE_EVERY="1s")


def test_a_restart_trains_and_deploys_nothing(stack: LocalStack) -> None:
    assert stack.stop("pipeline") == 0
    before = _monitored(stack)
    stack.start_pipeline("1s")
    assert eventually(lambda: _monitored(stack) > before, 60)
    assert _deployed(stack) == ["deploy"]


def test_a_start_while_the_database_is_away_trains_nothing(stack: LocalStack) -> None:
    away = {"DATABASE_URL": "postgresql://pipeline:none@127.0.0.1:1/mlops"}
    finished = subprocess.run(
        [PROJECT / "deploy/bin/pipeline"],
        env=stack.environment("pipeline") | away,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 3
    assert "Connection refused" in finished.stderr
    assert finished.stdout == ""


def test_a_rollback_stays_until_somebody_decides_anew(stack: LocalStack) -> None:
    stack.run("pipeline", ["kedro", "run"])
    assert _deployed(stack) == ["deploy", "deploy"]
    admin = KeyFile(stack.folder / "api_keys.json").create("kim", ["admin"])
    answer = httpx.post(
        f"{stack.url('api')}/deployments/rollback",
        json={"reason": "looks worse"},
        headers={"X-API-Key": admin},
    )
    assert answer.status_code == 201, answer.text
    stack.stop("pipeline")
    before = _monitored(stack)
    stack.start_pipeline("1s")
    assert eventually(lambda: _monitored(stack) > before, 60)
    assert _deployed(stack) == ["deploy", "deploy", "rollback"]
    assert eventually(lambda: stack.predict(VIRGINICA).json()["model_version"] == 1)


def test_the_generator_is_healthy_while_its_batches_are_new(stack: LocalStack) -> None:
    assert not stack.is_healthy("data-generator")
    options = ["--rows", "2", "--every", "10ms", "--batches", "3"]
    stack.run("data-generator", ["kedro", "stream", *options])
    assert stack.is_healthy("data-generator")


def test_the_api_writes_what_its_routes_write(stack: LocalStack) -> None:
    headers = {"X-API-Key": STRONG["MLOPS_API_KEY"]}
    with httpx.Client(base_url=stack.url("api"), headers=headers) as client:
        made = client.post("/observations", json={**VIRGINICA, "target": 2})
        assert made.status_code == 201, made.text
        assert client.delete(made.headers["location"]).status_code == 204
        identity = stack.predict(VIRGINICA).json()["prediction_id"]
        told = {"prediction_id": identity, "label": "virginica"}
        assert eventually(lambda: client.post("/feedback", json=told).status_code in {200, 201})
        assert eventually(lambda: scalar(stack.url_of("mlops"), "SELECT count(*) FROM predictions"))


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("data-generator", "DELETE FROM iris_data"),
        ("data-generator", "INSERT INTO deployments DEFAULT VALUES"),
        ("api", "DELETE FROM deployments"),
        ("api", "UPDATE predictions SET release = ''"),
        ("api", "INSERT INTO monitoring_runs DEFAULT VALUES"),
        ("api", "CREATE TABLE mine (id int)"),
        ("pipeline", "DROP TABLE iris_data"),
    ],
)
def test_a_service_may_do_no_more_than_it_needs(
    stack: LocalStack, service: str, statement: str
) -> None:
    connection = psycopg2.connect(stack.environment(service)["DATABASE_URL"])
    with connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(statement)
    connection.close()


def test_no_service_but_mlflow_opens_mlflows_database(stack: LocalStack) -> None:
    for service in ("data-generator", "api", "pipeline"):
        url = stack.environment(service)["DATABASE_URL"].replace("/mlops", "/mlflow")
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(url)


def test_the_pipelines_make_the_table_of_another_contract_for_the_api(stack: LocalStack) -> None:
    stack.run("pipeline", ["kedro", "run", "--pipeline", "data_ingestion", "--env", "wine"])
    (table,) = query(
        stack.url_of("mlops"), "SELECT tablename FROM pg_tables WHERE tableowner = 'pipeline'"
    )
    allowed = "SELECT has_table_privilege('api', :table, 'SELECT, INSERT, UPDATE, DELETE')"
    assert scalar(stack.url_of("mlops"), allowed, table=table[0])


def test_the_api_answers_by_a_release_that_it_read_from_s3(stack: LocalStack) -> None:
    answer = stack.predict(VIRGINICA)
    assert answer.status_code == 200
    assert answer.json()["iris_class"] == 2
    # Nothing but the store has ever given it to the API, whose cache was empty at its start.
    release = stack.folder / "s3/releases/iris" / stack.ready()["release"]
    assert {path.name for path in release.iterdir()} == {"model.onnx", "manifest.json"}


def test_the_api_wants_a_key_and_prometheus_one_only_reads(stack: LocalStack) -> None:
    predict, metrics = (f"{stack.url('api')}/{name}" for name in ("predict", "metrics"))
    key = {"Authorization": f"Bearer {STRONG['METRICS_API_KEY']}"}
    assert httpx.post(predict, json=VIRGINICA).status_code == 401
    assert httpx.post(predict, json=VIRGINICA, headers=key).status_code == 403
    assert httpx.get(metrics).status_code == 401
    assert httpx.get(metrics, headers=key).status_code == 200


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
    assert (
        _download(environment, f"runs:/{run_id}/snapshot", tmp_path) / "snapshot.parquet"
    ).exists()


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
    for name in ("s3", "mlflow", "pipeline", "api"):
        for secret in STRONG.values():
            assert secret not in stack.log(name)


def test_predictions_go_on_and_are_kept_while_s3_and_mlflow_are_gone(stack: LocalStack) -> None:
    stack.stop("s3")
    stack.stop("mlflow")
    identity = stack.predict(VIRGINICA).json()["prediction_id"]
    assert stack.stop("api") == 0
    stack.start_api()
    assert stack.ready()["origin"] == "cache"
    assert stack.predict(VIRGINICA).json()["iris_class"] == 2
    assert eventually(
        lambda: query(
            stack.url_of("mlops"),
            "SELECT 1 FROM predictions WHERE prediction_id = :i",
            i=identity,
        )
    )


def _run_id(stack: LocalStack) -> str:
    return str(scalar(stack.url_of("mlops"), "SELECT run_id FROM deployments WHERE id = 1"))


def _deployed(stack: LocalStack) -> list[str]:
    events = query(stack.url_of("mlops"), "SELECT event FROM deployments ORDER BY id")
    return [event for (event,) in events]


def _monitored(stack: LocalStack) -> int:
    return int(scalar(stack.url_of("mlops"), "SELECT count(*) FROM monitoring_runs"))


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
