"""A server from its settings to its orderly end: with idle connections, with a stuck client."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_observations
from mlops_for_mle.serving.server import MEMORY
from mlops_for_mle.serving.settings import ServingSettings
from tests.expectations import run, succeed
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import NOWHERE, Client, wait_until
from tests.serving.raw import request


def test_serving_loads_nothing_of_the_pipelines_and_no_database_before_the_first_answer():
    program = (
        "import sys; from mlops_for_mle.serving import app, server, services, settings; "
        "app.create_app(services.Services(settings.ServingSettings())); "
        "print('\\n'.join(sys.modules))"
    )

    loaded = succeed(sys.executable, "-c", program).split()

    assert "mlops_for_mle.serving.app" in loaded
    assert not {"kedro", "mlflow", "pandas", "sklearn", "sqlalchemy", "psycopg2"} & set(loaded)


def test_options_come_before_variables_and_both_before_folders_of_the_project(
    monkeypatch, tmp_path
):
    for name, value in (("PROJECT_PATH", str(tmp_path)), ("SPOOL", "/elsewhere"), ("PORT", "9000")):
        monkeypatch.setenv(f"MLOPS_{name}", value)

    settings = ServingSettings(_cli_parse_args=["--port", "9001"])

    assert settings.release_store == str(tmp_path / "data" / "releases")
    assert (settings.spool, settings.port) == (Path("/elsewhere"), 9001)
    assert ServingSettings().port == 9000


@pytest.mark.parametrize(
    ("options", "variables", "status", "told"),
    [
        (
            ("--port", "99999"),
            {"MLOPS_LOG_LEVEL": "loud"},
            2,
            "(?s).*\nport\n.*65535.*'99999'.*\nlog_level\n.*warning.*'loud'.*",
        ),
        (
            ("--host", "0.0.0.0"),
            {},
            2,
            "MLOPS_HOST: 0.0.0.0 can be reached by others, and there is no API key in "
            "{folder}/conf/local/api_keys.json. Create one with "
            "`python -m mlops_for_mle.serving.keys create NAME --scope predict`, "
            "or listen on 127.0.0.1.",
        ),
        (
            ("--port", "{taken}"),
            {},
            1,
            "Cannot listen on .* port {taken}: Address .* in use.*--port.*",
        ),
        # Whether there are any keys cannot be seen: that must let nobody in.
        ((), {"MLOPS_API_KEYS_FILE": "{folder}/loop"}, 2, ".*: '{folder}/loop'"),
        (("--workers", "2"), {"MLOPS_SPOOL": "{folder}/loop"}, 1, ".*: '{folder}/loop'"),
    ],
    ids=["wrong values", "a public address", "a taken address", "unknown keys", "no spool"],
)
def test_what_cannot_be_served_ends_with_a_sentence(tmp_path, options, variables, status, told):
    (tmp_path / "loop").symlink_to("loop")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"folder": tmp_path, "taken": taken.getsockname()[1]}
        given = {"MLOPS_PORT": "0", "MLOPS_PROJECT_PATH": "{folder}"} | variables
        ended = run(
            *(sys.executable, "-m", "mlops_for_mle.serving"),
            *(one.format(**places) for one in options),
            env=os.environ | {name: value.format(**places) for name, value in given.items()},
            timeout=90,
        )

    assert ended.returncode == status
    assert re.fullmatch(told.format(**places) + "\n", ended.stderr), ended.stderr


def test_without_cache_and_database_the_server_is_live_and_not_ready(settings, monkeypatch, caplog):
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    client = Client(settings)
    client.services.start()
    try:
        wait_until(lambda: "127.0.0.1" in client.get("/health/ready").text)
        told = client.get("/health/ready")
        assert client.get("/health/live").status_code == 200
    finally:
        client.services.stop()

    assert (told.status_code, "refused" in told.json()["detail"]) == (503, True)
    assert "hidden" not in told.text + caplog.text


@pytest.mark.parametrize(
    ("number", "imported"),
    [(signal.SIGTERM, "pydantic_settings"), (signal.SIGINT, "mlops_for_mle.serving.app")],
)
def test_a_signal_while_it_starts_ends_it_at_once(tmp_path, number, imported):
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "mlops_for_mle.serving", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MLOPS_PROJECT_PATH": str(tmp_path), "DATABASE_URL": NOWHERE},
    )
    # Of each module that it has imported it says one line.
    assert any(line.endswith(f" {imported}\n") for line in process.stderr)
    process.send_signal(number)

    _, errors = process.communicate(timeout=90)

    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_nothing_of_the_metrics_stays_after_a_kill(start_serving, iris):
    server = start_serving(iris, options=("--workers", "2"))
    host, port = server.address
    (folder,) = MEMORY.glob(f"mlops-metrics-{host}-{port}-*")

    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    wait_until(lambda: not folder.exists())


def test_clients_that_connect_anew_for_each_request_are_answered_or_refused(start_serving, iris):
    server = start_serving(iris, MLOPS_SHUTDOWN_SECONDS="60")
    statuses: Counter[str] = Counter()

    def ask() -> None:
        while True:
            try:
                with socket.create_connection(server.address, timeout=60) as channel:
                    channel.sendall(request())
                    statuses[channel.recv(65536)[9:12].decode()] += 1
            except ConnectionRefusedError:
                return
            except ConnectionError as error:
                statuses[type(error).__name__] += 1

    with ThreadPoolExecutor(24) as threads:
        asking = [threads.submit(ask) for _ in range(24)]
        wait_until(lambda: statuses["200"] > 100)

        server.end()

        for one in asking:
            one.result(90)
    del statuses["200"]
    # Who was not taken yet is refused, and may ask again; nobody gets half of an answer.
    assert set(statuses) <= {"ConnectionResetError", "BrokenPipeError"}, statuses
    assert sum(statuses.values()) <= len(asking)


def test_an_embedded_server_that_cannot_start_is_a_database_that_is_away(
    client, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/postgres").write_text("a file")

    answer = client.get("/deployments")

    assert answer.status_code == 503
    assert "postgres" in answer.json()["detail"]


def test_neither_forty_slow_requests_nor_a_stuck_database_hold_up_anything_else(
    start_serving, database, deploy, iris, iris_second
):
    database.run("DROP TABLE IF EXISTS iris_data")
    ensure_observations(database.url, IRIS_CONTRACT)
    times = {"SHIP": "0.1", "SHUTDOWN": "2", "REQUEST_TIMEOUT": "600"}
    server = start_serving(iris, **{f"MLOPS_{name}_SECONDS": one for name, one in times.items()})
    paths = ("/observations", "/predictions/recent", "/deployments", "/metrics")
    answers: list[int] = []

    def ask(_: int) -> None:
        answers.append(server.get("/observations").status_code)

    with ThreadPoolExecutor(40) as asking, engine_for(database.url).begin() as connection:
        connection.exec_driver_sql("LOCK TABLE iris_data IN ACCESS EXCLUSIVE MODE")
        asking.map(ask, range(40))
        wait_until(lambda: answers.count(429) == 8, what="more than may wait")
        predicted = server.predict()
        wait_until(lambda: database.count("predictions"), what="the shipped prediction")
        label = {"prediction_id": predicted["prediction_id"], "label": 2}
        assert server.post("/feedback", json=label).status_code == 201
        for path in (*paths[1:], "/monitoring"):
            assert server.get(path).status_code == 200
        deploy(iris_second)
        server.wait_until_ready(iris_second.manifest.release)
        assert set(answers) == {429}, "the others waited all the time"
        connection.rollback()
    assert server.get("/observations").status_code == 200

    backends = database.rows(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'mlops-for-mle %'"
    )
    for (pid,) in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(200) as asking:
            for path in paths * 50:
                asking.submit(server.get, path)
            wait_until(
                lambda: server.get("/health/ready").json()["database"]["available"] is False,
                what="the truth",
            )
            server.predict()
            assert server.get("/openapi.json").status_code == 200
            assert server.get("/health/ready").status_code == 200
            # Nor does a client that never finishes hold up the end.
            with socket.create_connection(server.address) as stuck:
                stuck.sendall(request()[:-5])
                assert server.get("/health/live")
                server.end()
    finally:
        for (pid,) in backends:
            os.kill(pid, signal.SIGCONT)
