"""The stack's services as plain processes, wired by the variables of the compose file."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import make_url

from tests.servers import (
    ExternalPostgres,
    eventually,
    free_port,
    installation,
    serve_s3,
    status_of,
)
from tests.stack.compose_file import PROJECT, SETTINGS, STRONG, services

# Where the images set variables and the tests' machine has none.
IMAGE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class LocalStack:
    """Postgres, S3, MLflow, pipelines and API on free ports of this machine, in one folder.

    Commands that end find the ``kedro`` in ``programs``; services find the one that is installed.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self.ports = {name: free_port() for name in ("s3", "mlflow", "api")}
        self._server = ExternalPostgres("postgres")
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, service: str) -> dict[str, str]:
        """The variables that the compose file gives to a service, with this machine's addresses."""
        server = make_url(self._server.url)
        addresses = {
            "http://s3:9000": self.url("s3"),
            "http://mlflow:5000": self.url("mlflow"),
            "@postgres:5432/": f"@{server.host}:{server.port}/",
        }
        found = {}
        for name, value in services(SETTINGS)[service]["environment"].items():
            found[name] = str(value)
            for inside, outside in addresses.items():
                found[name] = found[name].replace(inside, outside)
        places = [str(PROJECT / "deploy/bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        return {
            "PATH": os.pathsep.join(places),
            "HOME": str(self.folder),
            "MLOPS_PROJECT_PATH": str(self.folder),
            **IMAGE,
            **found,
        }

    def variables(self, service: str, **changes: str | None) -> dict[str, str]:
        """Those of a command that a service runs; None takes one away."""
        found: dict[str, str | None] = {**self.environment(service)}
        found["PATH"] = f"{self._programs}{os.pathsep}{found['PATH']}"
        return {name: value for name, value in (found | changes).items() if value is not None}

    def url_of(self, database: str) -> str:
        """A database, as its administrator."""
        return make_url(self._server.url).set(database=database).render_as_string(False)

    def make_databases(self) -> None:
        """What the image of PostgreSQL does with an empty volume."""
        server = make_url(self._server.url)
        path = os.pathsep.join([str(installation() / "bin"), os.environ["PATH"]])
        login = {"PGHOST": server.host, "PGPORT": str(server.port), "PGPASSWORD": server.password}
        script = PROJECT / "deploy/postgres/10_databases.sh"
        self.run("postgres", [script], PATH=path, **login)

    def start_s3(self) -> None:
        """With the login that the compose file gives to MinIO's successor."""
        login = f"{SETTINGS['MINIO_ROOT_USER']},{SETTINGS['MINIO_ROOT_PASSWORD']}"
        buckets = self.folder / "s3"
        buckets.mkdir()
        self._running["s3"] = serve_s3(buckets, self._address("s3"), login)

    def migrate(self) -> None:
        """The one-shot service of the same name; in an image, the grants lie beside it."""
        bin_folder = self.folder / "bin"
        if not bin_folder.exists():
            shutil.copytree(PROJECT / "deploy/bin", bin_folder)
            shutil.copy(PROJECT / "deploy/grants.sql", bin_folder)
        self.run("migrate", [bin_folder / "migrate"])

    def start_pipeline(self, every: str) -> None:
        """The service of the same name."""
        environment = self.environment("pipeline") | {"PIPELINE_EVERY": every}
        self._start("pipeline", [PROJECT / "deploy/bin/pipeline"], environment)

    def is_healthy(self, service: str, **settings: str) -> bool:
        """Whether the health check of the compose file succeeds."""
        kind, *command = services(SETTINGS)[service]["healthcheck"]["test"]
        shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
        return self.attempt(service, [*shell, *command], **settings).returncode == 0

    def start_mlflow(self) -> None:
        """The tracking server, with the options that the environment gives."""
        environment = self.environment("mlflow")
        environment["MLFLOW_EXPOSE_PROMETHEUS"] = str(self.folder / "mlflow-metrics")
        options = ["--host", "127.0.0.1", "--port", str(self.ports["mlflow"]), "--workers", "1"]
        self._start("mlflow", ["mlflow", "server", *options], environment)
        assert eventually(lambda: status_of(f"{self.url('mlflow')}/health") == 200)

    def start_api(self) -> None:
        """The API; other than in a container it listens on this machine only."""
        environment = self.environment("api") | {
            "MLOPS_HOST": "127.0.0.1",
            "MLOPS_PORT": str(self.ports["api"]),
            "MLOPS_API_KEYS_FILE": str(self.folder / "api_keys.json"),
        }
        self._start("api", [sys.executable, "-m", "mlops_for_mle.serving"], environment)
        assert eventually(lambda: status_of(f"{self.url('api')}/health/ready") == 200)

    def run(self, service: str, command: list[Any], **changes: str | None) -> str:
        """Run a command as a service would and give what it said."""
        finished = self.attempt(service, command, **changes)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout + finished.stderr

    def attempt(
        self, service: str, command: list[Any], **changes: str | None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a service would, with changed variables; None takes one away."""
        return subprocess.run(
            [*map(str, command)],
            env=self.variables(service, **changes),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """End a process and give its exit status."""
        process = self._running.pop(name)
        os.killpg(process.pid, number)
        return process.wait(90)

    def close(self) -> None:
        """End everything."""
        for name in list(self._running):
            self.stop(name, signal.SIGKILL)
        self._server.remove()

    def url(self, name: str) -> str:
        return f"http://{self._address(name)}"

    def predict(self, row: dict[str, float]) -> httpx.Response:
        """Ask the API as the demo does."""
        key = {"X-API-Key": STRONG["MLOPS_API_KEY"]}
        return httpx.post(f"{self.url('api')}/predict", json=row, headers=key, timeout=10)

    def ready(self) -> dict[str, Any]:
        """What the API says of itself to whom it knows."""
        key = {"X-API-Key": STRONG["MLOPS_API_KEY"]}
        return dict(httpx.get(f"{self.url('api')}/health/ready", headers=key, timeout=10).json())

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", errors="replace")

    def _address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def _start(self, name: str, command: list[Any], environment: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*map(str, command)],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
