"""The project's commands, which `kedro` offers beside its own."""

import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import LazyGroup

from mlops_for_mle.commands.contract import contract_commands
from mlops_for_mle.commands.database import database_commands
from mlops_for_mle.commands.mlflow import mlflow_commands
from mlops_for_mle.commands.score import score, score_topic
from mlops_for_mle.commands.serve import serve
from mlops_for_mle.commands.stream import stream
from mlops_for_mle.commands.watch import watch
from mlops_for_mle.errors import friendly

cli = LazyGroup(
    name=__file__,
    help="Commands of the project.",
    # Imported when it is called, because it imports MLflow.
    lazy_subcommands={"model": "mlops_for_mle.commands.model.model_commands"},
)


def _friendly_run() -> click.Command:
    """Kedro's own `run`, which shows a person's mistake as a sentence instead of a traceback."""
    command = copy.copy(kedro_run)
    callback: Any = kedro_run.callback
    command.callback = friendly(callback)
    return command


run = _friendly_run()

for command in (
    run,
    contract_commands,
    database_commands,
    mlflow_commands,
    score,
    score_topic,
    serve,
    stream,
    watch,
):
    cli.add_command(command)
