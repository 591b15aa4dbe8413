"""The servers that are compared: how each is started and asked.

Every server has one worker, answers on the loopback interface and writes no line per request. Where
the documentation offers a choice, the quicker one is taken.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.bodies import (
    COLUMNS,
    LISTS,
    MLFLOW_COLUMNS,
    MLFLOW_SPLIT,
    OBJECT,
    OBJECTS,
    TENSOR,
    BodySize,
    Form,
)
from benchmarks.serving.environments import PROJECT
from benchmarks.serving.processes import free_port
from benchmarks.serving.trained_model import TrainedModel, own_environment

APPS = Path(__file__).resolve().parent / "apps"

OURS = "ours"
NOOP = "noop"


@dataclass(frozen=True)
class Start:
    """What a server is started with.

    Attributes:
        model: The trained model.
        binaries: The folder of programs of the server's environment.
        folder: A folder for whatever it needs.
        port: Where it shall listen.
    """

    model: TrainedModel
    binaries: Path
    folder: Path
    port: int


@dataclass(frozen=True)
class Command:
    """How to start a server: program and arguments, variables to add, and where."""

    arguments: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path = APPS


@dataclass(frozen=True)
class Server:
    """One competitor.

    Attributes:
        name: For options and files.
        title: For people.
        path: The route that predicts.
        command: Makes the command from what it is started with.
        one: How it is asked about one row.
        many: How it is asked about many rows; None where it cannot be.
        columns: Its quickest form for many rows.
        requirements: The name of its file of pinned versions; None for the project's environment.
        is_checked: Whether its answers are predictions.
    """

    name: str
    title: str
    path: str
    command: Callable[[Start], Command]
    one: Form
    many: Form | None
    columns: Form | None
    requirements: str | None = None
    is_checked: bool = True

    def form(self, size: BodySize) -> Form | None:
        """How it is asked about a body of this size; None where it cannot be."""
        if size.by_columns:
            return self.columns
        return self.one if size.row_count == 1 else self.many


def start_facts(
    server: Server, model: TrainedModel, environment: Path | None, cache: Path
) -> Start:
    """Choose a port and make an empty folder."""
    folder = cache / "servers" / server.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    binaries = environment / "bin" if environment is not None else Path(sys.executable).parent
    return Start(model, binaries, folder, free_port())


def environment_of(server: Server, start: Start, command: Command) -> dict[str, str]:
    """All variables of a server's process."""
    environment = own_environment(start.model.project)
    if server.requirements is not None:
        environment.pop("PYTHONPATH", None)
    environment["PATH"] = os.pathsep.join([str(start.binaries), environment["PATH"]])
    return environment | command.variables


def _ours(start: Start) -> Command:
    arguments = ["-m", "mlops_for_mle.serving", "--port", str(start.port)]
    # Half of what is free: large bodies are answered more quickly than a database takes them in.
    bound = max(1 << 30, shutil.disk_usage(start.folder).free // 2)
    return Command(
        [str(start.binaries / "python"), *arguments],
        {"MLOPS_SPOOL_MAX_BYTES": str(bound), "MLOPS_SPOOL": str(start.folder / "spool")},
        PROJECT,
    )


def _noop(start: Start) -> Command:
    return Command([str(start.binaries / "python"), "noop.py", str(start.port)])


def _mlflow(start: Start) -> Command:
    arguments = ["models", "serve", "--model-uri", str(start.model.mlflow_folder)]
    arguments += ["--env-manager", "local", "--workers", "1"]
    arguments += ["--host", "127.0.0.1", "--port", str(start.port)]
    return Command(
        [str(start.binaries / "mlflow"), *arguments],
        {"UVICORN_ACCESS_LOG": "false", "MLFLOW_TRACKING_URI": str(start.folder)},
        start.folder,
    )


def _mlserver(start: Start) -> Command:
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": start.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        # In one process, like ours: its pool of processes for inference is no quicker for a small
        # model, and MLServer 1.7 cannot start it with uvloop 0.22 and newer.
        "parallel_workers": 0,
    }
    model = {
        "name": "iris",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(start.model.joblib_file)},
    }
    (start.folder / "settings.json").write_text(json.dumps(settings))
    (start.folder / "model-settings.json").write_text(json.dumps(model))
    return Command([str(start.binaries / "mlserver"), "start", "."], {}, start.folder)


def _bentoml(start: Start) -> Command:
    arguments = ["serve", "bentoml_service:Iris", "--host", "127.0.0.1", "--port", str(start.port)]
    configuration = start.folder / "configuration.yaml"
    configuration.write_text("services:\n  logging:\n    access:\n      enabled: false\n")
    variables = {
        "MODEL": str(start.model.joblib_file),
        "BENTOML_HOME": str(start.folder),
        "BENTOML_CONFIG": str(configuration),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return Command([str(start.binaries / "bentoml"), *arguments], variables)


def _litserve(start: Start) -> Command:
    arguments = ["litserve_app.py", str(start.port)]
    return Command(
        [str(start.binaries / "python"), *arguments],
        {"MODEL": str(start.model.joblib_file)},
    )


def _tutorial(start: Start) -> Command:
    arguments = ["tutorial:app", "--host", "127.0.0.1", "--port", str(start.port)]
    arguments += ["--no-access-log", "--log-level", "warning"]
    return Command(
        [str(start.binaries / "uvicorn"), *arguments],
        {"MODEL": str(start.model.mlflow_folder)},
    )


SERVERS = (
    Server(
        name=OURS,
        title="ours",
        path="/predict",
        command=_ours,
        one=OBJECT,
        many=OBJECTS,
        columns=COLUMNS,
    ),
    Server(
        name=NOOP,
        title="no-op ASGI",
        path="/predict",
        command=_noop,
        one=OBJECT,
        many=OBJECTS,
        columns=COLUMNS,
        is_checked=False,
    ),
    Server(
        name="mlflow",
        title="mlflow models serve",
        path="/invocations",
        command=_mlflow,
        one=MLFLOW_COLUMNS,
        many=MLFLOW_SPLIT,
        columns=MLFLOW_COLUMNS,
        requirements="mlflow",
    ),
    Server(
        name="mlserver",
        title="MLServer",
        path="/v2/models/iris/infer",
        command=_mlserver,
        one=TENSOR,
        many=TENSOR,
        columns=TENSOR,
        requirements="mlserver",
    ),
    Server(
        name="bentoml",
        title="BentoML",
        path="/predict",
        command=_bentoml,
        one=LISTS,
        many=LISTS,
        columns=LISTS,
        requirements="bentoml",
    ),
    Server(
        name="litserve",
        title="LitServe",
        path="/predict",
        command=_litserve,
        one=LISTS,
        many=LISTS,
        columns=LISTS,
        requirements="litserve",
    ),
    Server(
        name="tutorial",
        title="the tutorial's app",
        path="/predict",
        command=_tutorial,
        one=OBJECT,
        many=None,
        columns=None,
        requirements="tutorial",
    ),
)
