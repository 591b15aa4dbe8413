"""The whole stack in Docker: built, up, the main line inside, predictions, gone again."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.servers import eventually, free_port
from tests.stack.compose_file import PROJECT, environment_file, services
from tests.stack.test_preflight import STRONG

VIRGINICA = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}
LARGEST_API = 350 * 1000**2
PORTS = ("API_PORT", "MLFLOW_PORT", "S3_CONSOLE_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


def _docker(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, **options
    )


def _missing() -> str | None:
    if shutil.which("docker") is None:
        return "docker is not installed"
    if _docker("compose", "version").returncode:
        return "Docker's Compose plugin is not installed"
    if _docker("info").returncode:
        return "no Docker daemon answers"
    return None


pytestmark = [pytest.mark.docker, pytest.mark.end_to_end]


class DockerStack:
    """A Compose project of its own, with free ports and secrets of its own."""

    def __init__(self, folder: Path) -> None:
        example = environment_file(PROJECT / ".env.example")
        self.settings = example | STRONG | {name: str(free_port()) for name in PORTS}
        self.settings["PIPELINE_EVERY"] = "off"
        # A machine without access to the registries may name images that it has.
        self.settings |= {name: os.environ[name] for name in example if name in os.environ}
        self.file = folder / ".env"
        self.file.write_text("".join(f"{k}={v}\n" for k, v in self.settings.items()))
        self.project = f"mlops-test-{os.getpid()}"

    def compose(self, *arguments: str, check: bool = True) -> str:
        finished = _docker(
            "compose",
            "--project-name",
            self.project,
            "--env-file",
            str(self.file),
            *arguments,
            cwd=PROJECT,
            timeout=1800,
        )
        assert not check or finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(_docker("inspect", self.container(service)).stdout)
        return dict(found)

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def predict(self) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.settings['API_PORT']}/predict",
            json=VIRGINICA,
            headers={"X-API-Key": self.settings["MLOPS_API_KEY"]},
            timeout=5,
        )

    def predicts(self) -> bool:
        try:
            return self.predict().status_code == 200
        except httpx.TransportError:
            return False

    def count(self, table: str) -> int:
        return int(
            self.compose(
                "exec", "-T", "postgres", "psql", "--username=postgres", "--dbname=mlops", "-Atc",
                f"SELECT count(*) FROM {table}",
            )
        )  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerStack]:
    """Up, and the main line has run inside."""
    if reason := _missing():
        pytest.skip(reason)
    found = DockerStack(tmp_path_factory.mktemp("stack"))
    try:
        found.compose("build")
        found.compose("up", "--detach", "--wait", "pipeline", "data-generator")
        found.compose("exec", "-T", "pipeline", "run_pipeline")
        found.compose("up", "--detach", "--wait")
        yield found
    finally:
        found.compose("down", "--volumes", "--remove-orphans", check=False)


def test_the_main_line_ends_in_an_answered_prediction(stack: DockerStack) -> None:
    answer = stack.predict()
    assert answer.status_code == 200
    assert answer.json()["iris_class"] == 2
    assert eventually(lambda: stack.count("predictions") >= 1)


@pytest.mark.parametrize("service", services(STRONG))
def test_a_running_container_is_neither_root_nor_writable(stack: DockerStack, service: str) -> None:
    if not stack.container(service):
        pytest.skip("not part of the default profile")
    found = stack.inspect(service)
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    if found["State"]["Running"]:
        assert stack.compose("exec", "-T", service, "id", "-u").strip() != "0"


def test_the_api_image_is_small_and_only_serves(stack: DockerStack) -> None:
    sizes = [
        int(_docker("image", "inspect", "--format", "{{.Size}}", image).stdout)
        for image in ("mlops-for-mle/api:local", stack.settings["PYTHON_IMAGE"])
    ]
    assert sizes[0] - sizes[1] < LARGEST_API
    question = (
        "import importlib.util as u; print([n for n in ('kedro','mlflow') if u.find_spec(n)])"
    )
    assert stack.compose("exec", "-T", "api", "python", "-c", question).strip() == "[]"


def test_predictions_go_on_and_none_is_lost_while_a_server_is_killed(stack: DockerStack) -> None:
    assert eventually(lambda: stack.count("predictions") >= 1)
    before, answered = stack.count("predictions"), 0
    for service in ("s3", "mlflow", "postgres"):
        stack.compose("kill", "--signal", "SIGKILL", service)
        for _ in range(20):
            answered += stack.predict().status_code == 200
            time.sleep(0.05)
        stack.compose("up", "--detach", "--no-deps", "--wait", service)
    assert answered == 60
    assert eventually(lambda: stack.count("predictions") == before + answered, 60)


def test_a_killed_api_answers_again_within_ten_seconds(stack: DockerStack) -> None:
    stack.compose("kill", "--signal", "SIGKILL", "api")
    began = time.monotonic()
    stack.compose("up", "--detach", "--no-deps", "api")
    assert eventually(stack.predicts, 10)
    assert time.monotonic() - began < 10


def test_stop_is_graceful_and_down_and_up_keep_the_data(stack: DockerStack) -> None:
    stack.compose("stop")
    for service in ("postgres", "mlflow", "pipeline", "data-generator", "api"):
        assert stack.inspect(service)["State"]["ExitCode"] == 0, service
    stack.compose("up", "--detach", "--wait")
    before = stack.count("iris_data"), stack.count("predictions")
    stack.compose("down")
    stack.compose("up", "--detach", "--wait")
    assert stack.predict().status_code == 200
    assert stack.count("iris_data") >= before[0] > 150
    assert stack.count("predictions") >= before[1] > 0


def test_down_with_volumes_leaves_nothing(stack: DockerStack) -> None:
    stack.compose("down", "--volumes")
    label = f"label=com.docker.compose.project={stack.project}"
    for kind in ("container", "volume", "network"):
        options = ["--all"] if kind == "container" else []
        assert _docker(kind, "ls", *options, "--quiet", "--filter", label).stdout == ""


def test_placeholder_secrets_keep_everything_from_starting(stack: DockerStack) -> None:
    weak = stack.file.with_name("weak.env")
    example = (PROJECT / ".env.example").read_text("utf-8")
    weak.write_text(example)
    stack.file, kept = weak, stack.file
    try:
        stack.compose("up", "--detach", "postgres", check=False)
        assert stack.inspect("preflight")["State"]["ExitCode"] == 2
        assert stack.inspect("postgres")["State"]["Status"] == "created"
    finally:
        stack.compose("down", "--volumes", check=False)
        stack.file = kept
