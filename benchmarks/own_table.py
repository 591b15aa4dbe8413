"""How long an unseen CSV file takes to become a served model, with nothing reviewed.

    python benchmarks/own_table.py [--rows 50000] [--estimator logistic]

Each step is the command that a person would type, in a project of its own that is thrown away.
Beside the time on the clock stands the processors' time, which a busy machine changes less.
`serve` ends with the first prediction. The parity of the ONNX form is that of the deployed
release, which is compared on every row of the snapshot before it is deployed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.integration.projects import copy_project
from tests.mixed_rows import TARGET, mixed_rows

from mlops_for_mle.database import embedded

PROJECT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--estimator", default=None, help="A short name; the default is inferred.")
    options = parser.parse_args()
    # Short and open to the server's own user, unlike the private folders of a person.
    folder = Path(tempfile.mkdtemp(prefix="own-table-"))
    folder.chmod(0o755)
    try:
        copy_project(PROJECT, folder)
        measure(folder, options.rows, options.estimator)
    finally:
        if (folder / "data/postgres").exists():
            embedded.destroy(folder / "data/postgres")
        shutil.rmtree(folder)


def measure(folder: Path, row_count: int, estimator: str | None) -> None:
    rows = mixed_rows(row_count)
    rows.to_csv(folder / "orders.csv", index=False)
    print(f"{row_count:,} rows of {rows.shape[1]} columns, {os.cpu_count()} CPUs")
    infer = ("contract", "infer", "--csv", "orders.csv", "--target", TARGET, "--name", "orders")
    steps = {"contract infer": timed(lambda: kedro(folder, *infer, "--env", "new"))}
    changes = ("--params", f"training.estimator.name={estimator}") if estimator else ()
    steps["run"] = timed(lambda: kedro(folder, "run", "--env", "new", *changes))
    steps["serve and predict"] = timed(lambda: serve_and_predict(folder, rows.iloc[0].to_dict()))
    for name, step in steps.items():
        print(f"  {name:<18} {step.clock:7.1f} s, of processors {step.processors:6.1f} s")
    clock = sum(step.clock for step in steps.values())
    processors = sum(step.processors for step in steps.values())
    print(f"  {'altogether':<18} {clock:7.1f} s, of processors {processors:6.1f} s")
    answer = steps["serve and predict"].result
    print(f"  answer   {json.dumps(answer, ensure_ascii=False)}")
    manifest = json.loads(next(folder.glob("data/releases/orders/*/manifest.json")).read_text())
    print(f"  parity   {manifest['parity']}")
    metrics = {
        name.removeprefix("validation_"): round(value, 4)
        for name, value in manifest["model"]["metrics"].items()
        if name.startswith("validation_")
    }
    print(f"  measured {metrics}")


class Step(NamedTuple):
    """What a step gave, and the seconds it took."""

    result: Any
    clock: float
    processors: float


def timed(action: Callable[[], Any]) -> Step:
    before, begin = os.times(), time.perf_counter()
    result = action()
    clock, after = time.perf_counter() - begin, os.times()
    user = after.children_user - before.children_user
    return Step(result, clock, user + after.children_system - before.children_system)


def kedro(folder: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=folder,
        env=environment(folder),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def serve_and_predict(folder: Path, text: dict[str, str]) -> dict[str, Any]:
    log = folder / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "kedro", "serve", "--env", "new", "--port", "0"],
            cwd=folder,
            env=environment(folder),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        address = wait_for(lambda: re.search(r"Listening on (http://[^\s\"]+)", log.read_text()))[1]
        wait_for(lambda: ask(f"{address}/health/ready"))
        contract = ask(f"{address}/model")["contract"]
        row = typed_row(text, contract)
        return dict(ask(f"{address}/predict", row))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def typed_row(text: dict[str, str], contract: dict[str, Any]) -> dict[str, Any]:
    """A row of the file as a client would send it."""
    readers: dict[str, Any] = {"integer": int, "float": float, "boolean": lambda one: one == "true"}
    return {
        name: readers.get(feature["type"], str)(text[name]) if text[name] else None
        for name, feature in contract["features"].items()
    }


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except URLError:
        if body is not None:
            raise
        return None


def wait_for(condition: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
    return found


def environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MLOPS_") and name not in ("DATABASE_URL", "MLFLOW_TRACKING_URI")
    }
    return {**kept, "MLOPS_PROJECT_PATH": str(folder)}


if __name__ == "__main__":
    main()
