"""`kedro watch`: monitors the deployed release and retrains it when that is called for."""

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import Duration, env_option
from mlops_for_mle.errors import UserError, causes, friendly

if TYPE_CHECKING:
    from mlops_for_mle.rounds import Patience

_LOGGER = logging.getLogger(__name__)


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
@friendly
def watch(
    metadata: ProjectMetadata,
    env: str | None,
    every: timedelta,
    rounds: int | None,
    monitor_only: bool,
) -> None:
    """Monitor the deployed release, decide, and retrain when that is called for.

    Each round runs the pipeline monitoring and, if its decision says so, the pipeline retrain.
    Two of these never run at once for one contract. What fails is tried again, more and more
    seldom; while retraining fails, monitoring goes on at its pace. Ctrl-C or SIGTERM ends it after
    the round that is under way.
    """
    from mlops_for_mle.commands.project import read_contract
    from mlops_for_mle.rounds import repeat
    from mlops_for_mle.stop_signal import StopSignal

    contract = read_contract(metadata.project_path, env)
    stopping = StopSignal()
    stopping.catch_signals()
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)

    retraining = None if monitor_only else patient_retraining(metadata, env, every)

    def work() -> None:
        watch_once(metadata, env, contract.name, retraining)

    click.echo(f"Watching {contract.name} every {every.total_seconds():g} s.")
    failed = repeat(work, every, stopping, rounds)
    if rounds is not None and failed == rounds:
        raise click.ClickException("No round succeeded.")
    if rounds is not None and retraining is not None and retraining.failures:
        raise click.ClickException("Retraining is called for and has failed.")


def patient_retraining(metadata: ProjectMetadata, env: str | None, every: timedelta) -> "Patience":
    """The pipeline retrain, tried more and more seldom while it fails."""
    from mlops_for_mle import database
    from mlops_for_mle.rounds import Patience

    def retrain() -> None:
        with database.reachable(database.database_url()):
            _run(metadata, env, "retrain")

    return Patience("retraining", retrain, every)


def watch_once(
    metadata: ProjectMetadata, env: str | None, contract: str, retraining: "Patience | None"
) -> None:
    """Do one round.

    Args:
        metadata: The project.
        env: A folder of ``conf``; None means ``local``.
        contract: What is watched.
        retraining: What to do when it is called for; its failures are not the round's. None only
            decides.

    Raises:
        UserError: A person has to do something first; the message says what.
        Exception: A pipeline failed for another reason.
    """
    from mlops_for_mle import database, retraining_log

    url = database.database_url()
    with database.reachable(url) as engine, database.only_one(engine, f"watch/{contract}") as held:
        if held is None:
            _LOGGER.info("contract=%s is watched by another process; skipped", contract)
            return
        _run(metadata, env, "monitoring")
        held.keep()
        with engine.connect() as connection:
            decision = retraining_log.newest(connection, contract)
        if retraining is None:
            return
        if decision is not None and decision.is_pending:
            retraining.work()
            held.keep()
        else:
            retraining.forget()


def _run(metadata: ProjectMetadata, env: str | None, pipeline: str) -> None:
    """Run a pipeline in a session of its own; shows a person's mistake as what it is."""
    from kedro.framework.session import KedroSession

    try:
        session: Any
        with KedroSession.create(project_path=metadata.project_path, env=env) as session:
            session.run(pipeline_names=[pipeline])
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, UserError):
                raise cause from error
        raise
