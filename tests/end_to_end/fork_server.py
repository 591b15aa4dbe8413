"""A process that has imported what the project's commands import, and forks them.

Of the two seconds that a command takes to start, nearly all go into imports. All else is as `python
-m` has it: a process, a folder and an environment of its own, and an end as Python's but that
nothing is freed, so that a file which nobody has closed is not flushed.

A line of JSON tells what to run, a module or a file of Python; the exit status is the answer.
"""

import atexit
import gc
import inspect
import json
import os
import runpy
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TextIO

# The first one decides what libraries may say and send, before they are imported.
IMPORTED = (
    "mlops_for_mle.settings",
    "mlops_for_mle.cli",
    "mlops_for_mle.commands.database",
    "mlops_for_mle.commands.model",
    "mlops_for_mle.database.embedded",
    "mlops_for_mle.pipeline_registry",
    "kedro.framework.cli",
    "kedro.framework.context",
    "kedro_datasets.json.json_dataset",
    "kedro_datasets.matplotlib.matplotlib_dataset",
    "kedro_datasets.pandas.parquet_dataset",
    "kedro_mlflow.framework.cli.cli",
    "kedro_mlflow.framework.hooks.mlflow_hook",
    "kedro_telemetry.plugin",
    "kedro_viz.launchers.cli.main",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracing.processor.base_mlflow",
    "IPython",
    "git",
    "httpx",
    "onnxruntime",
    "psycopg2.extras",
    "pytest",
    "sklearn.svm",
    "skl2onnx",
    "skops.io",
    "sqlalchemy.dialects.postgresql",
)


def serve(answers: TextIO) -> None:
    """Returns in the child, once for each line."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return become(**json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    sys.exit()


def become(command: list[str], folder: str, environment: dict[str, str], files: list[str]) -> None:
    """Make this process what a shell would have made for the command."""
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = command


def leave(code: int) -> None:
    """End as Python does, but for freeing every object, which would copy what processes share."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in IMPORTED:
        import_module(name)
    # Dynaconf does this, too, for which Python looks for the file of every module, once.
    inspect.stack()
    # Else each process would look through all that was imported, at its end at the latest.
    gc.freeze()
    # So that what a command spawns does not import this file.
    del __file__
    serve(answers)
    try:
        if sys.argv[0].endswith(".py"):
            sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        leave(0)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            leave(end.code or 0)
        raise
