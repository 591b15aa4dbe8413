"""`kedro watch`: monitors the deployed release and retrains it when that is called for."""

import logging
import signal
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import Duration, env_option
from mlops_for_mle.errors import NotCalledForError, causes


@click.command()
@env_option
@click.option(
    "--every",
    default="10m",
    show_default=True,
    type=Duration(timedelta(seconds=1)),
    help="Between rounds; at least 1s.",
)
@click.option(
    "--rounds", default=None, type=click.IntRange(1), help="Stop after so many; without, go on."
)
@click.option("--monitor-only", is_flag=True, help="Decide, but never retrain.")
@click.pass_obj
def watch(
    metadata: ProjectMetadata,
    env: str | None,
    every: timedelta,
    rounds: int | None,
    monitor_only: bool,
) -> None:
    """Monitor the deployed release, decide, and retrain when that is called for.

    Each round runs the pipeline monitoring and, if its decision says so, the pipeline retrain.
    What fails is tried again, more and more seldom; while retraining fails, monitoring goes on at
    its pace. Ctrl-C or SIGTERM ends it at once.
    """
    from mlops_for_mle.commands.project import read_configuration
    from mlops_for_mle.pipelines.monitoring.options import (
        MonitoringOptions,
        RetrainingOptions,
        require_decidable,
    )
    from mlops_for_mle.pipelines.monitoring.watch import Watch

    parameters = read_configuration(metadata.project_path, env)["parameters"]
    monitoring = MonitoringOptions.model_validate(parameters["monitoring"])
    require_decidable(monitoring, RetrainingOptions.model_validate(parameters["retraining"]))
    contract = parameters["contract"]["name"]
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = partial(run_pipeline, metadata, env)

    def look() -> bool:
        run("monitoring")
        return not monitor_only and _calls_for_retraining(contract)

    click.echo(f"Watching {contract} every {every.total_seconds():g} s.")
    try:
        Watch(look, partial(run, "retrain"), every, rounds).run()
    except KeyboardInterrupt:
        click.echo("Stopped.")


def _calls_for_retraining(contract: str) -> bool:
    from mlops_for_mle.database.engine import database_url, engine_for
    from mlops_for_mle.pipelines.monitoring.datasets import newest_decision

    with engine_for(database_url()).connect() as connection:
        decision = newest_decision(connection, contract)
    return decision is not None and decision.decision == "retrain" and decision.acted_at is None


def run_pipeline(metadata: ProjectMetadata, env: str | None, pipeline: str) -> None:
    """Run a pipeline in a session of its own.

    Raises:
        NotCalledForError: It is not needed now.
    """
    import mlflow
    from kedro.framework.session import KedroSession

    session: Any
    try:
        with KedroSession.create(project_path=metadata.project_path, env=env) as session:
            session.run(pipeline_names=[pipeline])
    except KeyboardInterrupt:
        # Else MLflow would take it for finished at the end of the process.
        with suppress(Exception):
            mlflow.end_run("KILLED")
        raise
    except Exception as error:
        needless = [cause for cause in causes(error) if isinstance(cause, NotCalledForError)]
        if needless:
            raise needless[0] from error
        raise
