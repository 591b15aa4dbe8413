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

from mlops_for_mle.serving.server import MEMORY
from mlops_for_mle.serving.settings import ServingSettings
from tests.serving.conftest import NOWHERE, run, wait_until
from tests.serving.raw import request

FORBIDDEN = (
    *("kedro", "mlflow", "pandas", "sklearn", "mlops_for_mle.pipelines"),
    *("sqlalchemy", "psycopg2"),
)


def test_serving_loads_nothing_of_the_pipelines_and_no_database_before_the_first_answer():
    program = (
        "import sys; from mlops_for_mle.serving import app, server, services, settings; "
        "app.create_app(services.Services(settings.ServingSettings.load())); "
        "print('\\n'.join(sys.modules))"
    )

    loaded = run("-c", program).stdout.split()

    assert "mlops_for_mle.serving.app" in loaded
    for name in loaded:
        assert not any(name == one or name.startswith(f"{one}.") for one in FORBIDDEN), name


def test_options_come_before_variables_and_both_before_folders_of_the_project(
    monkeypatch, tmp_path
):
    for name, value in (("PROJECT_PATH", str(tmp_path)), ("CACHE", "/elsewhere"), ("PORT", "9000")):
        monkeypatch.setenv(f"MLOPS_{name}", value)

    settings = ServingSettings.load(arguments=["--port", "9001"])

    assert settings.release_store == str(tmp_path / "data" / "releases")
    assert (settings.cache, settings.port) == (Path("/elsewhere"), 9001)
    assert ServingSettings.load().port == 9000


def test_wrong_values_are_named_with_what_is_allowed_and_end_the_program_with_status_2():
    ended = run("-m", "mlops_for_mle.serving", "--port", "99999", MLOPS_LOG_LEVEL="loud")

    assert ended.returncode == 2
    port, level = ended.stderr.splitlines()
    assert re.match("MLOPS_PORT: .*65535.*'99999'", port)
    assert re.match("MLOPS_LOG_LEVEL: .*warning.*'loud'", level)


def test_without_cache_and_database_the_server_is_live_and_not_ready(start_server):
    server = start_server(DATABASE_URL=NOWHERE)

    assert wait_until(lambda: server.get("/health/live")).status_code == 200

    def obstacle() -> str | None:
        answer = server.get("/health/ready")
        assert answer.status_code == 503
        detail = answer.json()["detail"]
        return detail if "127.0.0.1" in detail else None

    assert "refused" in wait_until(obstacle)
    assert server.stop() == 0
    assert "hidden" not in server.output()


def test_an_address_that_is_taken_is_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--port", str(port), "--project-path", str(tmp_path))
        ended = run("-m", "mlops_for_mle.serving", *options)

    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("variable", "workers"), [("API_KEYS_FILE", 1), ("SPOOL", 2)])
def test_a_path_that_cannot_be_used_is_one_sentence(tmp_path, variable, workers):
    """Also keys of which it cannot be seen whether there are any: that must let nobody in."""
    (path := tmp_path / "loop").symlink_to("loop")
    options = ("--port", "0", "--workers", str(workers))

    ended = run("-m", "mlops_for_mle.serving", *options, **{f"MLOPS_{variable}": str(path)})

    assert ended.returncode == 1
    assert re.fullmatch(f".*: '{path}'\n", ended.stderr)


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


@pytest.mark.integration
def test_nothing_of_the_metrics_stays_after_a_kill(start_serving, iris):
    server = start_serving(iris, options=("--workers", "2"))
    host, port = server.address
    (folder,) = MEMORY.glob(f"mlops-metrics-{host}-{port}-*")

    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    wait_until(lambda: not folder.exists())


@pytest.mark.integration
def test_a_client_that_never_finishes_does_not_hold_up_the_end(start_serving, iris):
    server = start_serving(iris, MLOPS_SHUTDOWN_SECONDS="1")
    with socket.create_connection(server.address) as stuck:
        stuck.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        # Answered after the server has read what came before.
        assert server.get("/health/live")

        assert server.stop() == 0


@pytest.mark.integration
def test_clients_that_connect_anew_for_each_request_are_answered_or_refused(start_serving, iris):
    server = start_serving(iris, MLOPS_SHUTDOWN_SECONDS="60")
    statuses: Counter[str] = Counter()

    def ask() -> None:
        while True:
            try:
                channel = socket.create_connection(server.address, timeout=60)
            except ConnectionRefusedError:
                return
            with channel:
                try:
                    channel.sendall(request())
                    statuses[channel.recv(65536)[9:12].decode()] += 1
                except ConnectionError as error:
                    statuses[type(error).__name__] += 1

    with ThreadPoolExecutor(24) as threads:
        asking = [threads.submit(ask) for _ in range(24)]
        wait_until(lambda: statuses["200"] > 100)

        assert server.stop() == 0

        for one in asking:
            one.result(90)
    del statuses["200"]
    # Who was not taken yet is refused, and may ask again; nobody gets half of an answer.
    assert set(statuses) <= {"ConnectionResetError", "BrokenPipeError"}, statuses
    assert sum(statuses.values()) <= len(asking)
