"""A server from its settings to its orderly end: with idle connections, with a stuck client."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from runpy import run_module
from unittest.mock import Mock

import pytest

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.schema import ensure_observations
from tests.expectations import succeed
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import NOWHERE, wait_until
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
            "MLOPS_HOST: 0.0.0.0 .* no API key in {folder}/conf/local/api_keys.json. .*",
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
def test_what_cannot_be_served_ends_with_a_sentence(
    tmp_path, monkeypatch, capsys, options, variables, status, told
):
    for changed in ("logging.config.dictConfig", "signal.signal", "uvicorn.Server.run"):
        monkeypatch.setattr(changed, Mock())
    (tmp_path / "loop").symlink_to("loop")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"folder": tmp_path, "taken": taken.getsockname()[1]}
        given = {"MLOPS_PORT": "0", "MLOPS_PROJECT_PATH": "{folder}"} | variables
        for name, value in given.items():
            monkeypatch.setenv(name, value.format(**places))
        monkeypatch.setattr(sys, "argv", ["", *(one.format(**places) for one in options)])
        with pytest.raises(SystemExit) as ended:
            run_module("mlops_for_mle.serving", run_name="__main__")

    errors = capsys.readouterr().err
    assert ended.value.code == status
    assert re.fullmatch(told.format(**places) + "\n", errors), errors


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
