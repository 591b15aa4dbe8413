"""`kedro score-topic`: scores the rows that arrive in a Kafka topic."""

import logging
import os
from datetime import timedelta

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import (
    batch_size_option,
    env_option,
    follow_option,
    report_every_option,
)


@click.command(name="score-topic")
@click.argument("topic")
@env_option
@follow_option
@click.option("--group-id", default=None, help="The consumer group; or KAFKA_GROUP_ID.")
@click.option("--bootstrap-servers", default=None, help="Or KAFKA_BOOTSTRAP_SERVERS.")
@click.option("--dead-letter-topic", default=None, help="The default is TOPIC.dead-letter.")
@batch_size_option
@report_every_option
@click.pass_obj
def score_topic(
    metadata: ProjectMetadata,
    /,
    topic: str,
    env: str | None,
    follow: bool,
    batch_size: int,
    report_every: timedelta,
    **options: str | None,
) -> None:
    """Score the rows in the Kafka topic TOPIC and write the contract's table of predictions.

    Several processes of one group share the topic's partitions. A message that cannot be scored
    goes to the dead-letter topic with the reason as a header.
    """
    from importlib.util import find_spec

    from mlops_for_mle.errors import PrerequisiteError, UserError

    if find_spec("confluent_kafka") is None:
        raise PrerequisiteError(
            "Kafka's client is not installed: install this project with its extra `kafka`."
        )
    from mlops_for_mle import database
    from mlops_for_mle.commands.project import read_contract
    from mlops_for_mle.config import release_store
    from mlops_for_mle.scoring.kafka.brokers import Brokers
    from mlops_for_mle.scoring.kafka.settings import KafkaSettings
    from mlops_for_mle.scoring.kafka.topic_scorer import TopicPlan, TopicScorer
    from mlops_for_mle.scoring.preparation import prepare_scoring
    from mlops_for_mle.scoring.scorer import ReleaseScorer
    from mlops_for_mle.stop_signal import StopSignal

    settings = KafkaSettings.load(options)
    contract = read_contract(metadata.project_path, env)
    plan = TopicPlan(
        contract=contract,
        topic=topic,
        group=settings.group_id or f"{contract.name}-scoring",
        dead_letter_topic=settings.dead_letter_topic or f"{topic}.dead-letter",
        batch_size=batch_size,
        follow=follow,
        report_seconds=max(report_every.total_seconds(), 0.1),
    )
    if plan.dead_letter_topic == plan.topic:
        raise UserError(f"--dead-letter-topic: must be another topic than {plan.topic}")
    stopping = StopSignal()
    stopping.catch_signals()
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    url = database.database_url()
    prepare_scoring(url, contract)
    scorer = ReleaseScorer(contract, release_store(), url)
    click.echo(f"Scoring topic {topic} as a member of group {plan.group} (process {os.getpid()}).")
    totals = TopicScorer(plan, Brokers(settings), scorer, database.database_url, stopping).run()
    click.echo(f"Scored {totals.scored} message(s); {totals.dead_letters} dead letter(s).")
