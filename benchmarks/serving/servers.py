"""The servers that are compared: how each is installed, started, asked and understood.

Every server has one worker, answers on the loopback interface and writes no line per request. Where
the documentation offers a choice, the quicker one is taken. Ours is asked in the contract's own
words: text, dates, gaps. The peers serve the training pipeline from MLflow, which takes the numbers
that the contract makes of them, so that they have less to do.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from benchmarks.common import CACHE, PROJECT, Checkout, Server, free_port
from benchmarks.ingestion import iris_rows
from benchmarks.scoring import mixed_rows, score

HERE = Path(__file__).resolve().parent
ROWS = 10_000
RESPONSES = {"iris": "iris_class", "subscriptions": "해지"}

# The project's own, which keep what they answer.
OURS = ("ours", "other")

# What peers are installed for: the project's own Python, which ours runs on, or one that uv finds.
PYTHONS = (str(Path(sys.executable).resolve()), "3.12", "3.11", "3.13")


class Model:
    """One contract's model, in the forms that the servers load.

    Attributes:
        folder: The version as MLflow stores it, and the same pipeline in `model.joblib`.
        rows: What ours is asked about, and `labels`, what batch scoring says to them.
        data: What the peers are asked about, by `columns`, and `answers`, what scikit-learn says.
    """

    def __init__(self, side: Checkout, contract: str) -> None:
        side.deploy(contract)
        self.side, self.contract = side, contract
        self.folder = side.folder / "models" / contract
        shutil.rmtree(self.folder, ignore_errors=True)
        side.kedro("model", "download", "champion", str(self.folder), "--env", contract)
        # The first subscriber has no gap, the second has.
        rows = iris_rows(ROWS, 7) if contract == "iris" else mixed_rows(ROWS + 1)[1:]
        rows.to_parquet(self.folder / "asked.parquet")
        score(contract, self.folder / "asked.parquet", side)
        scored = pd.read_parquet(side.folder / "scored/rows.parquet").sort_values("row_number")
        self.labels: list[Any] = scored[RESPONSES[contract]].tolist()
        if contract == "iris":
            rows = rows.drop(columns="target")
            inputs = rows.to_dict("split")
        else:
            seen = rows["마지막 접속"].dt.strftime("%Y-%m-%dT%H:%M:%S")
            rows = rows.assign(**{"가입일": rows["가입일"].astype(str), "마지막 접속": seen})
            rows = rows.drop(columns=["고객번호", "해지일", "해지"])
            inputs = json.loads((self.folder / "input_example.json").read_text())
        self.rows: list[dict[str, Any]] = json.loads(rows.to_json(orient="records"))
        self.columns: list[str] = inputs["columns"]
        # JSON has no NaN.
        data = [[None if value != value else value for value in row] for row in inputs["data"]]
        self.data: list[list[float | None]] = list(islice(cycle(data), ROWS))
        document = {"columns": self.columns, "data": self.data}
        (self.folder / "rows.json").write_text(json.dumps(document))
        side.run(side.python, str(HERE / "apps/export.py"), str(self.folder))
        self.answers: list[int] = json.loads((self.folder / "answers.json").read_text())


class Kind(NamedTuple):
    """How a server is asked for so many rows, understood and started."""

    path: str
    body: Callable[[Model, int], Any]
    read: Callable[[Any], list[Any]]
    command: str = ""


def start(name: str, model: Model) -> Server:
    """Install and start a server; raises `OSError` if it cannot be had here."""
    if name in OURS:
        return model.side.serve(model.contract)
    folder = CACHE / "servers" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    binaries = Path(model.side.python).parent if name == "noop" else install(name)
    places = {"apps": HERE / "apps", "folder": folder, "model": model.folder}
    places |= {"port": free_port(), "second": free_port(), "third": free_port()}
    words = [word.format(**places) for word in KINDS[name].command.split()]
    variables = dict(word.split("=", 1) for word in words if word.split("=")[0].isupper())
    program, *arguments = words[len(variables) :]
    path = os.pathsep.join([str(binaries), os.environ["PATH"]])
    environment = model.side.environment | {"PATH": path, **variables}
    return Server([str(binaries / program), *arguments], environment, folder, places["port"])


@cache
def install(name: str) -> Path:
    """The programs of an environment with the versions of `requirements/<name>.txt`.

    Raises:
        OSError: No Python that the peer supports is here, or a package cannot be had.
    """
    requirements, folder = HERE / f"requirements/{name}.txt", CACHE / "peers" / name
    print(f"installing {name} …", flush=True)
    into = ("--python", str(folder / "bin/python"))
    reasons = []
    for python in PYTHONS:
        try:
            uv("venv", "--clear", "--no-python-downloads", "--python", python, str(folder))
            uv("pip", "install", *into, "--requirements", str(requirements))
            return folder / "bin"
        except OSError as error:
            reasons.append(f"{python}: {error}")
    raise OSError("; ".join(reasons))


def uv(*arguments: str) -> None:
    # The one that the project's set-up has brought, else the one on PATH.
    brought = sorted(map(str, PROJECT.glob(".tools/uv-*/bin/uv")))
    command = [*brought, "uv"][0], *arguments, "--quiet"
    finished = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise OSError(" ".join(finished.stderr.split()[-60:]))


def _own_form(model: Model, count: int) -> Any:
    columns = {name: [row[name] for row in model.rows] for name in model.rows[0]}
    return model.rows[0] if count == 1 else {"columns": columns}


def _own_answer(answer: Any) -> list[Any]:
    values = answer.get("columns", answer)
    found = next(values[name] for name in RESPONSES.values() if name in values)
    return found if isinstance(found, list) else [found]


def _columns(model: Model, count: int) -> Any:
    values = zip(*model.data[:count], strict=True)
    return {"inputs": dict(zip(model.columns, map(list, values), strict=True))}


def _tensor(model: Model, count: int) -> Any:
    data = [value for row in model.data[:count] for value in row]
    shape = [count, len(model.columns)]
    return {"inputs": [{"name": "features", "datatype": "FP64", "shape": shape, "data": data}]}


NOOP = """
uvicorn noop:application --app-dir {apps} --port {port} --loop uvloop --http httptools
--lifespan off --no-access-log --log-level warning
"""
MLFLOW = """
UVICORN_ACCESS_LOG=false MLFLOW_TRACKING_URI={folder}
mlflow models serve --model-uri {model} --env-manager local --workers 1 --port {port}
"""
# In one process, like ours: MLServer's pool of processes is no quicker for a small model, and
# MLServer 1.7 cannot start it with uvloop 0.22 and newer.
MLSERVER = """
MLSERVER_PARALLEL_WORKERS=0 MLSERVER_DEBUG=false MLSERVER_HOST=127.0.0.1 MLSERVER_HTTP_PORT={port}
MLSERVER_GRPC_PORT={second} MLSERVER_METRICS_PORT={third} MLSERVER_MODEL_NAME=model
MLSERVER_MODEL_IMPLEMENTATION=mlserver_sklearn.SKLearnModel
MLSERVER_MODEL_URI={model}/model.joblib
mlserver start {folder}
"""

KINDS = {
    "ours": Kind("/predict", _own_form, _own_answer),
    "other": Kind("/predict", _own_form, _own_answer),
    "noop": Kind("/predict", _own_form, _own_answer, NOOP),
    "mlflow": Kind("/invocations", _columns, lambda answer: answer["predictions"], MLFLOW),
    "mlserver": Kind(
        "/v2/models/model/infer", _tensor, lambda answer: answer["outputs"][0]["data"], MLSERVER
    ),
}
