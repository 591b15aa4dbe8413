"""`kedro score`: scores the rows of the table of observations, once or as they arrive."""

import logging
from datetime import timedelta

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import (
    batch_size_option,
    env_option,
    follow_option,
    report_every_option,
)


@click.command()
@env_option
@follow_option
@click.option(
    "--from-start",
    is_flag=True,
    help="Also score rows from before scoring was first used, and those rejected so far.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@batch_size_option
@report_every_option
@click.option(
    "--uninstall",
    is_flag=True,
    help="Queue new rows no longer, and forget those that wait; predictions stay.",
)
@click.pass_obj
def score(
    metadata: ProjectMetadata,
    env: str | None,
    follow: bool,
    from_start: bool,
    workers: int,
    batch_size: int,
    report_every: timedelta,
    uninstall: bool,
) -> None:
    """Score new rows of the table of observations with the deployed release.

    The first use adds a trigger to the table, which queues every row that is inserted from then
    on. Predictions go to the table <contract>_prediction, rows that do not fit the contract to
    scoring_rejects. Any number of these processes may run at once.
    """
    from mlops_for_mle import database
    from mlops_for_mle.commands.project import read_contract
    from mlops_for_mle.config import release_store
    from mlops_for_mle.contract_tables import prediction_table_name
    from mlops_for_mle.scoring.plan import ScoringPlan
    from mlops_for_mle.scoring.preparation import prepare_scoring
    from mlops_for_mle.scoring.row_queue import RowQueue
    from mlops_for_mle.scoring.worker import ScoringWorker
    from mlops_for_mle.scoring.workers import WorkerProcesses
    from mlops_for_mle.stop_signal import StopSignal

    contract = read_contract(metadata.project_path, env)
    url = database.database_url()
    prepare_scoring(url, contract)
    queue = RowQueue(contract)
    if uninstall:
        if follow or from_start:
            raise click.UsageError("--uninstall goes with neither --follow nor --from-start")
        forgotten = queue.uninstall(url)
        click.echo(f"New rows of {contract.table} are queued no longer; {forgotten} waited.")
        return

    stopping = StopSignal()
    stopping.catch_signals()
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    is_first_use = queue.install(url)
    if from_start:
        click.echo(f"Queued {queue.enqueue_unscored(url)} row(s) that had no prediction.")
    elif is_first_use and queue.has_rows(url):
        click.echo(
            f"From now on new rows of {contract.table} are queued; those that are there already "
            "are scored by `kedro score --from-start`."
        )
    plan = ScoringPlan(
        contract=contract,
        release_store=release_store(),
        follow=follow,
        batch_size=batch_size,
        report_seconds=max(report_every.total_seconds(), 0.1),
    )
    if follow:
        click.echo(
            f"Scoring new rows of {contract.table} into {prediction_table_name(contract)} "
            f"with {workers} worker(s)."
        )
    totals = (
        ScoringWorker(plan, database.database_url, stopping).run()
        if workers == 1
        else WorkerProcesses(plan, workers, stopping).run()
    )
    rejected = f", rejected {totals.rejected} (see scoring_rejects)" if totals.rejected else ""
    click.echo(f"Scored {totals.scored} row(s){rejected}.")
