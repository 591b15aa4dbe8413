import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.serving.conftest import IRIS_ROW, wait_until

FORBIDDEN = (
    *("kedro", "mlflow", "pandas", "sklearn", "mlops_for_mle.pipelines"),
    *("sqlalchemy", "psycopg2"),
)


def test_serving_loads_nothing_of_the_pipelines_and_no_database_before_the_first_answer():
    program = (
        "import sys; from mlops_for_mle.serving import app, server, settings; "
        "app.create_app(app.make_services(settings.ServingSettings.load())); "
        "print('\\n'.join(sys.modules))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    for name in ended.stdout.split():
        assert not any(name == one or name.startswith(f"{one}.") for one in FORBIDDEN), name


@pytest.mark.integration
def test_a_restart_answers_from_the_cache_while_the_database_is_down(
    start_server, database, store, iris
):
    store.publish(iris)
    database.deploy(iris)
    first = start_server(DATABASE_URL=database.url)
    assert first.wait_until_ready()["origin"] == "store"
    assert first.stop() == 0

    second = start_server(DATABASE_URL="postgresql://nobody:hidden@127.0.0.1:1/nothing")

    assert httpx.post(f"{second.url}/predict", json=IRIS_ROW).json()["iris_class"] == 2
    found = second.wait_until_ready()
    assert found["origin"] == "cache"
    wait_until(lambda: second.get("/health/ready").json()["database"]["available"] is False)
    assert second.stop() == 0
    assert "hidden" not in second.output()


def test_without_cache_and_database_the_server_is_live_and_not_ready(start_server):
    server = start_server(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")

    assert wait_until(lambda: server.get("/health/live")).status_code == 200

    def obstacle() -> str | None:
        answer = server.get("/health/ready")
        assert answer.status_code == 503
        detail = answer.json()["detail"]
        return detail if "127.0.0.1" in detail else None

    assert "refused" in wait_until(obstacle)
    assert server.stop() == 0


@pytest.mark.integration
def test_every_worker_follows(start_server, database, store, iris, iris_second):
    for release in (iris, iris_second):
        store.publish(release)
    database.deploy(iris)
    server = start_server("--workers", "2", DATABASE_URL=database.url)
    server.wait_until_ready(iris.manifest.release)

    database.deploy(iris_second)

    def all_follow() -> bool:
        # A new connection each time, so that either process may take it.
        answers = [server.get("/health/ready") for _ in range(20)]
        return all(
            answer is not None and answer.json().get("release") == iris_second.manifest.release
            for answer in answers
        )

    wait_until(all_follow, timeout=20)
    output = server.output()
    assert output.count(f"Serving release {iris_second.manifest.release}") == 2, output
    assert server.stop() == 0


def test_an_address_that_is_taken_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "mlops_for_mle.serving", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"MLOPS_PROJECT_PATH": str(tmp_path)},
        )

    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6, 0.9, 1.3])
def test_a_signal_while_it_starts_ends_it_at_once(tmp_path, number, seconds):
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_for_mle.serving", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"MLOPS_PROJECT_PATH": str(tmp_path), "DATABASE_URL": "postgresql://x@127.0.0.1:1/x"},
    )
    time.sleep(seconds)
    process.send_signal(number)

    _, errors = process.communicate(timeout=15)

    # Before the interpreter has come to our first line, it ends in its own way.
    assert process.returncode in {0, -number, 128 + number} or seconds < 0.1, errors
    if seconds > 0.2:
        assert "Traceback" not in errors


@pytest.mark.integration
def test_nothing_of_the_metrics_stays_after_a_kill(start_server, database, store, tmp_path, iris):
    store.publish(iris)
    database.deploy(iris)
    server = start_server("--workers", "2", DATABASE_URL=database.url)
    server.wait_until_ready()
    spool = tmp_path / "data" / "serving_spool"
    assert len(list(spool.glob("metrics-*"))) == 1

    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    wait_until(lambda: not list(spool.glob("metrics-*")))
