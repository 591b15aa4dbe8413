"""The servers that are compared: how each is installed, started, asked and loaded.

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

from benchmarks.common import CACHE, PROJECT, Checkout, Server, free_port

HERE = Path(__file__).resolve().parent
ROWS = 10_000
CONNECTIONS = 8
CONTRACTS = ("iris", "subscriptions")

PYTHONS = ">=3.11,<3.13"


class Model:
    """One contract's model, in the forms that the servers load.

    Attributes:
        folder: The version as MLflow stores it, and the same pipeline in `model.joblib`.
        rows: What ours is asked about, rows of its table; the first has a gap if any has.
        columns: What the peers are asked about, with `data`.
    """

    def __init__(self, side: Checkout, contract: str) -> None:
        side.deploy(contract)
        self.side, self.contract = side, contract
        self.folder = side.folder / "models" / contract
        shutil.rmtree(self.folder, ignore_errors=True)
        side.kedro("model", "download", "champion", str(self.folder), "--env", contract)
        with side.serve(contract) as server:
            server.wait_until_answering("/health/ready")
            features = server.ask("/model")["contract"]["features"]
            known = server.ask("/observations?limit=1000")["observations"]
        known.sort(key=lambda row: None not in row.values())
        rows = islice(cycle(known), ROWS)
        self.rows: list[dict[str, Any]] = [{name: row[name] for name in features} for row in rows]
        side.run(side.python, "-c", EXPORT, str(self.folder))
        text = (self.folder / "input_example.json").read_text()
        example = json.loads(text, parse_constant=lambda nan: None)
        self.columns: list[str] = example["columns"]
        self.data: list[list[float | None]] = list(islice(cycle(example["data"]), ROWS))


class Kind(NamedTuple):
    """How a server is asked for so many rows, and started."""

    path: str
    body: Callable[[Model, int], Any]
    command: str = ""


def start(name: str, model: Model) -> Server:
    """Install and start a server; raises `OSError` if it cannot be had here."""
    if name == "ours":
        return model.side.serve(model.contract)
    folder = CACHE / "servers" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    binaries = Path(model.side.python).parent if name == "noop" else install(name)
    places = {"here": HERE, "folder": folder, "model": model.folder}
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
    uv("venv", "--clear", "--no-python-downloads", "--python", PYTHONS, str(folder))
    python = str(folder / "bin/python")
    uv("pip", "install", "--python", python, "--requirements", str(requirements))
    return folder / "bin"


def uv(*arguments: str) -> None:
    # The one that the project's set-up has brought, else the one on PATH.
    brought = sorted(map(str, PROJECT.glob(".tools/uv-*/bin/uv")))
    command = [*brought, "uv"][0], *arguments, "--quiet"
    finished = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise OSError(" ".join(finished.stderr.split()[-60:]))


def load(url: str, body: Any, seconds: float, requests: int) -> dict[str, Any]:
    """Send a body again and again from a process of its own; gives what the client has found."""
    file = CACHE / "body.json"
    file.write_text(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    numbers = (str(CONNECTIONS), str(seconds), str(requests))
    command = [sys.executable, HERE / "client.py", url, file, *numbers]
    return dict(json.loads(subprocess.check_output(command)))


def forget_logged(side: Checkout, rows: int) -> None:
    """Wait until the table has every prediction that was answered, once, and empty it."""
    if (found := side.wait_for_rows("predictions", rows)) != rows:
        raise SystemExit(f"{side.name}: {rows} rows were answered, {found} are in the table")
    side.sql("TRUNCATE predictions CASCADE")


def _own_form(model: Model, count: int) -> Any:
    columns = {name: [row[name] for row in model.rows] for name in model.rows[0]}
    return model.rows[0] if count == 1 else {"columns": columns}


def _columns(model: Model, count: int) -> Any:
    values = zip(*model.data[:count], strict=True)
    return {"inputs": dict(zip(model.columns, map(list, values), strict=True))}


def _tensor(model: Model, count: int) -> Any:
    data = [value for row in model.data[:count] for value in row]
    shape = [count, len(model.columns)]
    return {"inputs": [{"name": "features", "datatype": "FP64", "shape": shape, "data": data}]}


EXPORT = """
import sys, joblib, mlflow
joblib.dump(mlflow.sklearn.load_model(sys.argv[1]), sys.argv[1] + "/model.joblib")
"""
NOOP = """
uvicorn noop:application --app-dir {here} --port {port} --loop uvloop --http httptools
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
    "ours": Kind("/predict", _own_form),
    "noop": Kind("/predict", _own_form, NOOP),
    "mlflow": Kind("/invocations", _columns, MLFLOW),
    "mlserver": Kind("/v2/models/model/infer", _tensor, MLSERVER),
}
