"""The stack's wiring on real processes: PostgreSQL with its logins, an S3 server, MLflow, the
pipelines' service and the API, each with the variables of the compose file.
"""

from contextlib import closing
from hashlib import sha256
from pathlib import Path

import httpx
import psycopg2
import pytest

from mlops_for_mle.serving.keys import KeyFile
from tests import PROJECT
from tests.end_to_end.shim import shim
from tests.projects import copy_project
from tests.servers import eventually, query, scalar
from tests.serving.conftest import IRIS_ROW
from tests.stack.compose_file import STRONG
from tests.stack.processes import BIN, LocalStack

pytestmark = pytest.mark.end_to_end
PIPELINE = {"PIPELINE_EVERY": "3s"}
# What a cast of mine from the type of the key does would run as the owner.
QUEUED = """
CREATE TEMPORARY TABLE mine (id int);
CREATE TRIGGER mine AFTER INSERT ON mine REFERENCING NEW TABLE AS inserted_rows
FOR EACH STATEMENT EXECUTE FUNCTION enqueue_for_scoring('iris', 'id')
"""
PARTITIONED = """
CREATE TABLE months (id int) PARTITION BY RANGE (id);
CREATE TABLE month PARTITION OF months DEFAULT
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Up, migrated, deployed by the pipelines' service; the API has its release from S3."""
    folder = tmp_path_factory.mktemp("stack")
    copy_project(PROJECT, folder)
    with shim() as programs, closing(LocalStack(folder, programs)) as found:
        found.begin()
        found.start_mlflow()
        found.start("pipeline", BIN / "pipeline", **PIPELINE)
        assert eventually(lambda: _monitored(found) >= 1, 600), found.said()
        digests = {
            f"{name}_KEY_SHA256": sha256(STRONG[key].encode()).hexdigest()
            for name, key in (("API", "MLOPS_API_KEY"), ("METRICS", "METRICS_API_KEY"))
        }
        found.run("preflight", BIN / "preflight", folder, **digests)
        found.start_api()
        yield found


def test_the_pipelines_run_once_and_then_monitoring_does(stack):
    before = _monitored(stack)
    assert eventually(lambda: _monitored(stack) > before)
    assert _deployed(stack) == ["deploy"]
    assert stack.is_healthy("pipeline", **PIPELINE)


def test_a_start_while_the_database_is_away_trains_nothing(stack):
    away = {"DATABASE_URL": "postgresql://pipeline:none@127.0.0.1:1/mlops"}
    finished = stack.attempt("pipeline", BIN / "pipeline", **away)
    assert (finished.returncode, finished.stdout) == (3, "")
    assert "Connection refused" in finished.stderr


def test_a_restart_trains_nothing_and_a_rollback_stays(stack):
    stack.run("pipeline", "kedro", "run")
    assert _deployed(stack) == ["deploy", "deploy"]
    admin = KeyFile(stack.folder / "api_keys.json").create("kim", ["admin"])
    why = {"reason": "looks worse"}
    answer = stack.post("/deployments/rollback", json=why, headers={"X-API-Key": admin})
    assert answer.status_code == 201, answer.text
    assert stack.stop("pipeline") == 0
    before = _monitored(stack)
    stack.start("pipeline", BIN / "pipeline", **PIPELINE)
    assert eventually(lambda: _monitored(stack) > before)
    assert _deployed(stack) == ["deploy", "deploy", "rollback"]
    assert eventually(lambda: stack.predict()["model_version"] == 1)
    assert stack.stop("pipeline") == 0


def test_the_generator_is_healthy_while_its_batches_are_new(stack):
    assert not stack.is_healthy("data-generator")
    options = ("--rows", "2", "--every", "10ms", "--batches", "3")
    stack.run("data-generator", "kedro", "stream", *options)
    assert stack.is_healthy("data-generator")
    assert "Scored 0 row(s)" in stack.run("pipeline", "kedro", "score")


def test_the_api_writes_what_its_routes_write(stack):
    made = stack.post("/observations", json={**IRIS_ROW, "target": 2})
    assert made.status_code == 201, made.text
    assert stack.request("DELETE", made.headers["location"]).status_code == 204
    told = {"prediction_id": stack.predict()["prediction_id"], "label": "virginica"}
    # The label may be there before its prediction is, and then is answered with 200 as well.
    assert eventually(lambda: stack.post("/feedback", json=told).status_code in {200, 201})
    assert eventually(lambda: scalar(stack.url_of("mlops"), "SELECT count(*) FROM predictions"))


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("data-generator", "DELETE FROM iris_data"),
        ("data-generator", "SELECT FROM predictions"),
        ("data-generator", "INSERT INTO deployments DEFAULT VALUES"),
        ("api", "DELETE FROM deployments"),
        ("api", "UPDATE predictions SET release = ''"),
        ("api", "INSERT INTO monitoring_runs DEFAULT VALUES"),
        ("api", "CREATE TABLE mine (id int)"),
        ("api", QUEUED),
        ("pipeline", "DROP TABLE iris_data"),
    ],
)
def test_a_service_may_do_no_more_than_it_needs(stack, service, statement):
    url = stack.environment(service)["DATABASE_URL"]
    refused = pytest.raises(psycopg2.errors.InsufficientPrivilege)
    with closing(psycopg2.connect(url)) as connection, refused:
        connection.cursor().execute(statement)
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        psycopg2.connect(url.replace("/mlops", "/mlflow"))


def test_the_pipelines_make_the_table_of_another_contract_for_the_api(stack):
    stack.run("pipeline", "kedro", "run", "--pipeline", "data_ingestion", "--env", "wine")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'wine_data'"
    allowed = "SELECT has_table_privilege('api', 'wine_data', 'SELECT, INSERT, UPDATE, DELETE')"
    assert scalar(stack.url_of("mlops"), owner) == "pipeline"
    # The stack is updated with a table that its owner may grant nothing on, and with a partition.
    query(stack.environment("migrate")["DATABASE_URL"], PARTITIONED)
    stack.run("migrate", stack.folder / "bin/migrate")
    assert scalar(stack.url_of("mlops"), allowed)
    readable = "SELECT has_table_privilege('generator', 'month', 'SELECT')"
    assert not scalar(stack.url_of("mlops"), readable)


def test_the_api_wants_a_key_and_prometheus_one_only_reads(stack):
    predict, metrics = (f"{stack.url}/{name}" for name in ("predict", "metrics"))
    key = {"Authorization": f"Bearer {STRONG['METRICS_API_KEY']}"}
    assert httpx.post(predict, json=IRIS_ROW).status_code == 401
    assert httpx.post(predict, json=IRIS_ROW, headers=key).status_code == 403
    assert httpx.get(metrics).status_code == 401
    assert httpx.get(metrics, headers=key).status_code == 200


def test_artifacts_lie_on_s3_for_clients_with_and_without_access_to_it(stack, tmp_path):
    run_id = scalar(stack.url_of("mlops"), "SELECT run_id FROM deployments WHERE id = 1")
    (stored,) = (stack.folder / "s3/mlflow").rglob(f"{run_id}/artifacts/reports/data_quality.json")
    s3 = [name for name in stack.environment("pipeline") if name.startswith(("AWS_", "MLFLOW_S3"))]
    for uri, changes in (
        # Nothing of S3 is in this client's environment: MLflow's server does it all.
        (f"runs:/{run_id}/reports/data_quality.json", dict.fromkeys(s3)),
        (
            f"s3://{stored.relative_to(stack.folder / 's3')}",
            {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db"},
        ),
    ):
        download = ("python-here", "mlflow", "artifacts", "download", "--artifact-uri", uri)
        said = stack.run("pipeline", *download, **changes)
        assert Path(said.splitlines()[-1]).read_bytes() == stored.read_bytes()


def test_the_champion_can_be_downloaded_and_nothing_is_kept_beside_the_servers(stack, tmp_path):
    stack.run("pipeline", "kedro", "model", "download", "champion", tmp_path / "champion")
    assert list(tmp_path.rglob("model.onnx"))
    for name in ("postgres", "mlflow"):
        assert not (stack.folder / "data" / name).exists()


def test_mlflow_counts_its_requests_and_answers_under_no_foreign_name(stack):
    counted = httpx.get(f"{stack.url_at('mlflow')}/metrics").text
    assert 'mlflow_http_request_total{method="GET",status="200"}' in counted
    url = f"{stack.url_at('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"
    for host, status in (("evil.example", 403), ("mlflow:5000", 200)):
        assert httpx.get(url, headers={"Host": host}).status_code == status


def test_no_log_holds_a_secret(stack):
    said = stack.said()
    assert "Serving release" in said
    assert not [secret for secret in STRONG.values() if secret in said]


def test_predictions_go_on_and_are_kept_while_s3_and_mlflow_are_gone(stack):
    stack.s3.kill()
    stack.stop("mlflow")
    identity = stack.predict()["prediction_id"]
    assert stack.stop("api") == 0
    stack.start_api()
    assert stack.get("/health/ready").json()["origin"] == "cache"
    assert stack.predict()["iris_class"] == 2
    kept = "SELECT count(*) FROM predictions WHERE prediction_id = :id"
    assert eventually(lambda: scalar(stack.url_of("mlops"), kept, id=identity))


def _deployed(stack: LocalStack) -> list[str]:
    events = query(stack.url_of("mlops"), "SELECT event FROM deployments ORDER BY id")
    return [event for (event,) in events]


def _monitored(stack: LocalStack) -> int:
    return int(scalar(stack.url_of("mlops"), "SELECT count(*) FROM monitoring_runs"))
