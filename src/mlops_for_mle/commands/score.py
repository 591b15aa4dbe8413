"""`kedro score` and `kedro score-topic`: score rows as they arrive, in a table or a Kafka topic."""

from typing import TYPE_CHECKING

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import env_option

if TYPE_CHECKING:
    from mlops_for_mle.contract import Contract
    from mlops_for_mle.pipelines.scoring.following import Follower

_follow_option = click.option(
    "--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C."
)
_batch_size_option = click.option(
    "--batch-size",
    default=500,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="At most so many rows a transaction.",
)


@click.command()
@env_option
@_follow_option
@click.option(
    "--from-start",
    is_flag=True,
    help="Also score rows from before scoring was first used, and those rejected so far.",
)
@_batch_size_option
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
    batch_size: int,
    uninstall: bool,
) -> None:
    """Score new rows of the table of observations with the deployed release.

    The first use adds a trigger to the table, which queues every row that is inserted from then
    on. Predictions go to the table <contract>_prediction, rows that do not fit the contract to
    scoring_rejects. Any number of these processes may run at once.
    """
    from mlops_for_mle.config import release_store
    from mlops_for_mle.pipelines.scoring import stream

    contract = _prepared(metadata, env)
    if uninstall:
        waited = stream.uninstall(contract)
        click.echo(f"New rows of {contract.table} are queued no longer; {waited} waited.")
        return
    is_first_use = stream.install(contract)
    if from_start:
        queued = stream.enqueue_unscored(contract)
        click.echo(f"Queued {queued} row(s) that had no prediction.")
    elif is_first_use:
        click.echo(
            f"From now on new rows of {contract.table} are queued; those that are there already "
            "are scored by `kedro score --from-start`."
        )
    _score(stream.RowFollower(contract, release_store(), batch_size), follow, "row")


@click.command(name="score-topic")
@click.argument("topic")
@env_option
@_follow_option
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
@_batch_size_option
@click.pass_obj
def score_topic(
    metadata: ProjectMetadata,
    topic: str,
    env: str | None,
    follow: bool,
    group_id: str | None,
    bootstrap_servers: str,
    output_topic: str | None,
    batch_size: int,
) -> None:
    """Score the rows in the Kafka topic TOPIC and write the contract's table of predictions.

    Several processes of one group share the topic's partitions. A message that cannot be scored
    goes to scoring_rejects with the reason. The extra `kafka` is needed.
    """
    from contextlib import closing

    from mlops_for_mle.config import release_store
    from mlops_for_mle.pipelines.scoring.topic import TopicFollower

    contract = _prepared(metadata, env)
    group = group_id or f"{contract.name}-scoring"
    settings = {"bootstrap.servers": bootstrap_servers, "group.id": group}
    click.echo(f"Scoring topic {topic} as a member of group {group}.")
    follower = TopicFollower(contract, release_store(), batch_size, topic, settings, output_topic)
    with closing(follower):
        _score(follower, follow, "message")


def _prepared(metadata: ProjectMetadata, env: str | None) -> "Contract":
    """The contract, with its tables made."""
    from mlops_for_mle.commands.project import read_contract
    from mlops_for_mle.database.engine import database_url
    from mlops_for_mle.database.schema import ensure_predictions, prepare

    contract = read_contract(metadata.project_path, env)
    prepare(database_url(), contract)
    ensure_predictions(database_url(), contract)
    return contract


def _score(follower: "Follower", follow: bool, what: str) -> None:
    from mlops_for_mle.commands.project import until_stopped

    follower.run(until_stopped(), follow=follow)
    rejected = f", rejected {follower.rejected} (see scoring_rejects)" if follower.rejected else ""
    click.echo(f"Scored {follower.scored} {what}(s){rejected}.")
