"""A process that has imported what the project's commands import, and forks them.

Of the two seconds that a command takes to start, nearly all go into imports. All else is as from a
shell: each command has a process, a folder and an environment of its own, and ends as Python does.

A line of JSON tells what to run; the exit status is the answer.
"""

import json
import os
import sys
from importlib import import_module
from typing import TextIO

# The first one decides what libraries may say and send, before they are imported.
IMPORTED = (
    "mlops_for_mle.settings",
    "mlops_for_mle.cli",
    "mlops_for_mle.pipeline_registry",
    "mlops_for_mle.database.embedded",
    "kedro.framework.cli",
    "kedro_mlflow.framework.cli.cli",
    "kedro_datasets.json.json_dataset",
    "kedro_datasets.matplotlib.matplotlib_dataset",
    "kedro_datasets.pandas.parquet_dataset",
    "mlflow.sklearn",
    "onnxruntime",
    "skl2onnx",
    "skops.io",
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


def become(
    arguments: list[str], folder: str, environment: dict[str, str], output: str, errors: str
) -> None:
    """Make this process what a shell would have made for the command."""
    for number, path in enumerate((os.devnull, output, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["kedro", *arguments]


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in IMPORTED:
        import_module(name)
    # So that what a command spawns does not import this file.
    del __file__
    serve(answers)
    from kedro.framework.cli import main

    main()
