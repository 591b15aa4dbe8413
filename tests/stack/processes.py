"""The stack's services as plain processes, wired by the variables of the compose file."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from course.conftest import Program
from tests import PROJECT
from tests.expectations import run, succeed
from tests.servers import (
    ExternalPostgres,
    eventually,
    free_port,
    installation,
    query,
    serve_s3,
    status_of,
)
from tests.serving.conftest import Serving
from tests.stack.compose_file import SETTINGS, STRONG, services

BIN = PROJECT / "deploy/bin"
# Where the images set variables and the tests' machine has none.
IMAGE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class LocalStack(Serving):
    """Postgres, S3, MLflow, pipelines and API on free ports of this machine, in one folder.

    Commands that end find the ``kedro`` in ``programs``; services find the one that is installed.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._places = {name: f"127.0.0.1:{free_port()}" for name in ("s3", "mlflow", "api")}
        self._server = ExternalPostgres("postgres")
        self._running: dict[str, Program] = {}
        self.url = self.url_at("api")
        self.headers = {"X-API-Key": STRONG["MLOPS_API_KEY"]}

    def environment(self, service: str) -> dict[str, str]:
        """The variables that the compose file gives to a service, with this machine's addresses."""
        found = json.dumps(services(SETTINGS)[service]["environment"])
        server = make_url(self._server.url)
        for inside, outside in {
            "//s3:9000": f"//{self._places['s3']}",
            "//mlflow:5000": f"//{self._places['mlflow']}",
            "@postgres:5432/": f"@{server.host}:{server.port}/",
        }.items():
            found = found.replace(inside, outside)
        programs = (BIN, Path(sys.executable).parent, installation() / "bin")
        return {
            "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
            "HOME": str(self.folder),
            "MLOPS_PROJECT_PATH": str(self.folder),
            **IMAGE,
            **json.loads(found),
        }

    def url_at(self, name: str) -> str:
        return f"http://{self._places[name]}"

    def url_of(self, database: str) -> str:
        """A database, as its administrator."""
        return make_url(self._server.url).set(database=database).render_as_string(False)

    def begin(self) -> None:
        """What is there before MLflow: a server with databases and grants, and one with buckets."""
        server = make_url(self._server.url)
        login = {"PGHOST": server.host, "PGPORT": str(server.port), "PGPASSWORD": server.password}
        # The image of PostgreSQL does this with an empty volume.
        self.run("postgres", PROJECT / "deploy/postgres/10_databases.sh", **login)
        # As an administrator may do, who is not the project's.
        query(self.url_of("mlops"), "REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC")
        (self.folder / "s3").mkdir()
        root = f"{SETTINGS['MINIO_ROOT_USER']},{SETTINGS['MINIO_ROOT_PASSWORD']}"
        self.s3 = serve_s3(self.folder / "s3", self._places["s3"], root)
        # In an image, the grants lie beside it.
        shutil.copytree(BIN, self.folder / "bin")
        shutil.copy(PROJECT / "deploy/grants.sql", self.folder / "bin")
        for _ in range(2):
            self.run("migrate", self.folder / "bin/migrate")

    def start_mlflow(self) -> None:
        """The tracking server, with the options that the environment gives."""
        place = ("--host", "127.0.0.1", "--port", self._places["mlflow"].partition(":")[2])
        command = ("mlflow", "server", *place, "--workers", "1")
        self.start("mlflow", *command, MLFLOW_EXPOSE_PROMETHEUS=f"{self.folder}/mlflow-metrics")
        assert eventually(lambda: status_of(f"{self.url_at('mlflow')}/health") == 200)

    def start_api(self) -> None:
        """The API; other than in a container it listens on this machine only."""
        self.start(
            "api",
            *(sys.executable, "-m", "mlops_for_mle.serving"),
            MLOPS_HOST="127.0.0.1",
            MLOPS_PORT=self._places["api"].partition(":")[2],
            MLOPS_API_KEYS_FILE=f"{self.folder}/api_keys.json",
        )
        assert eventually(lambda: status_of(f"{self.url}/health/ready") == 200)

    def start(self, name: str, *command: Any, **changes: str) -> None:
        """Start a service, with changed variables."""
        log = self.folder / f"{name}-{time.monotonic_ns()}.log"
        variables = self.environment(name) | changes
        self._running[name] = Program([*map(str, command)], self.folder, log, variables)

    def run(self, service: str, *command: Any, **changes: str | None) -> str:
        """Run a command as a service would and give what it said."""
        return succeed(*command, **self._place(service, changes))

    def attempt(
        self, service: str, *command: Any, **changes: str | None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a service would, which may fail."""
        return run(*command, **self._place(service, changes))

    def _place(self, service: str, changes: dict[str, str | None]) -> dict[str, Any]:
        """Where its commands run, with changed variables; None takes one away."""
        variables = self.environment(service)
        variables["PATH"] = f"{self._programs}{os.pathsep}{variables['PATH']}"
        chosen = {name: text for name, text in (variables | changes).items() if text is not None}
        return {"env": chosen, "cwd": self.folder, "timeout": 600}

    def is_healthy(self, service: str, **settings: str) -> bool:
        """Whether the health check of the compose file succeeds."""
        kind, *command = services(SETTINGS)[service]["healthcheck"]["test"]
        shell = ["sh", "-c"] if kind == "CMD-SHELL" else []
        return self.attempt(service, *shell, *command, **settings).returncode == 0

    def stop(self, name: str) -> int:
        """End a service and give its exit status."""
        process = self._running.pop(name)
        process.stop()
        return process.ends(90)

    def close(self) -> None:
        """End everything."""
        for one in self._running.values():
            one.remove()
        self.s3.kill()
        self._server.remove()

    def said(self) -> str:
        """What all services have said so far."""
        return "".join(log.read_text("utf-8", "replace") for log in self.folder.glob("*.log"))
