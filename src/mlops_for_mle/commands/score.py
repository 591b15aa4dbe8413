"""`kedro score` and `kedro score-topic`: score rows as they arrive, in a table or a Kafka topic."""

from contextlib import closing

import click

from mlops_for_mle.commands.project import Project, until_stopped, with_project
from mlops_for_mle.config import release_store
from mlops_for_mle.database.engine import database_url
from mlops_for_mle.database.schema import ensure_predictions, prepare
from mlops_for_mle.pipelines.scoring import following
from mlops_for_mle.pipelines.scoring.following import Follower

_follow = click.option("--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C.")
_batch_size = click.option(
    "--batch-size",
    default=500,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="At most so many rows a transaction.",
)


@click.command()
@with_project
@_follow
@_batch_size
@click.option(
    "--from-start",
    is_flag=True,
    help="Also score rows from before scoring was first used, and those rejected so far.",
)
@click.option(
    "--uninstall",
    is_flag=True,
    help="Queue new rows no longer, and forget those that wait; predictions stay.",
)
def score(
    project: Project, follow: bool, batch_size: int, from_start: bool, uninstall: bool
) -> None:
    """Score new rows of the table of observations with the deployed release.

    The first use adds a trigger to the table, which queues every row that is inserted from then
    on. Predictions go to the table <contract>_prediction, rows that do not fit the contract to
    scoring_rejects. Any number of these processes may run at once.
    """
    contract = project.contract
    _make_tables(project)
    if uninstall:
        waited = following.uninstall(contract)
        click.echo(f"New rows of {contract.table} are queued no longer; {waited} waited.")
        return
    is_first_use = following.install(contract)
    if from_start:
        queued = following.enqueue_unscored(contract)
        click.echo(f"Queued {queued} row(s) that had no prediction.")
    elif is_first_use:
        click.echo(
            f"From now on new rows of {contract.table} are queued; those that are there already "
            "are scored by `kedro score --from-start`."
        )
    _score(following.RowFollower(contract, release_store(), batch_size), follow, "row")


@click.command(name="score-topic")
@click.argument("topic")
@with_project
@_follow
@_batch_size
@click.option(
    "--group-id",
    envvar="KAFKA_GROUP_ID",
    show_envvar=True,
    help="The default is <contract>-scoring.",
)
@click.option(
    "--bootstrap-servers", envvar="KAFKA_BOOTSTRAP_SERVERS", show_envvar=True, required=True
)
@click.option("--output-topic", help="Where predictions go, too, as JSON.")
def score_topic(
    project: Project,
    topic: str,
    follow: bool,
    batch_size: int,
    group_id: str | None,
    bootstrap_servers: str,
    output_topic: str | None,
) -> None:
    """Score the rows in the Kafka topic TOPIC and write the contract's table of predictions.

    Several processes of one group share the topic's partitions. A message that cannot be scored
    goes to scoring_rejects with the reason. The extra `kafka` is needed.
    """
    from mlops_for_mle.pipelines.scoring.topic import TopicFollower

    _make_tables(project)
    group = group_id or f"{project.contract.name}-scoring"
    settings = {"bootstrap.servers": bootstrap_servers, "group.id": group}
    click.echo(f"Scoring topic {topic} as a member of group {group}.")
    follower = TopicFollower(
        project.contract, release_store(), batch_size, topic, settings, output_topic
    )
    with closing(follower):
        _score(follower, follow, "message")


def _make_tables(project: Project) -> None:
    prepare(database_url(), project.contract)
    ensure_predictions(database_url(), project.contract)


def _score(follower: Follower, follow: bool, what: str) -> None:
    follower.run(until_stopped(), follow=follow)
    rejected = f", rejected {follower.rejected} (see scoring_rejects)" if follower.rejected else ""
    click.echo(f"Scored {follower.scored} {what}(s){rejected}.")
