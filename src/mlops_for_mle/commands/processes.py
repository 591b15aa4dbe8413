"""What runs until it is stopped: API, the generator, scoring, watch, the page of MLflow."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta
from http.client import HTTPException
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.request import Request, urlopen

import click

from mlops_for_mle.commands.project import Project, duration, until_stopped, with_project
from mlops_for_mle.config import release_store
from mlops_for_mle.errors import error_message, without_secrets

if TYPE_CHECKING:
    from mlops_for_mle.pipelines.monitoring.retraining import RetrainingDecision
    from mlops_for_mle.pipelines.scoring.following import Follower

_LOGGER = logging.getLogger(__name__)

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
@click.option("--host", help="Address to listen on; the default is 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on; the default is 8000.")
@click.option("--workers", type=int, help="Number of processes; the default is 1.")
def serve(project: Project, **options: str | int | None) -> None:
    """Serve the deployed release of an environment's contract over HTTP.

    Without --env it is that of MLOPS_MODEL where it is set, else of the default environment.
    """
    configured = os.environ.get("MLOPS_MODEL", "").strip() if project.env is None else ""
    environment = {
        "MLOPS_PROJECT_PATH": str(project.folder),
        **os.environ,
        "MLOPS_MODEL": configured or project.contract.name,
        "MLOPS_RELEASE_STORE": release_store(),
    }
    flags = [f"--{name}={value}" for name, value in options.items() if value is not None]
    arguments = [sys.executable, "-m", "mlops_for_mle.serving", *flags]
    # The process is replaced, so that the server carries nothing of Kedro and gets every signal.
    os.execve(sys.executable, arguments, environment)  # noqa: S606  (no shell is involved)


@click.command()
@with_project
@click.option("--rows", "size", default=1, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--every", default="1s", show_default=True, type=duration(), help="Such as 250ms.")
@click.option("--batches", type=click.IntRange(1), help="Stop after so many batches.")
@click.option("--seed", type=click.IntRange(0), help="Draw the same rows again.")
def stream(project: Project, size: int, every: timedelta, **limits: int | None) -> None:
    """Write random rows into the table of observations until stopped with Ctrl-C."""
    from kedro.io import DataCatalog

    from mlops_for_mle.database.engine import database_url
    from mlops_for_mle.database.schema import prepare
    from mlops_for_mle.pipelines.data_ingestion.generator import stream_batches
    from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions, to_contract

    contract, configuration = project.contract, project.configuration
    options = IngestionOptions.model_validate(project.parameters["ingestion"])
    entry = {"source_rows": configuration["catalog"]["source_rows"]}
    source = DataCatalog.from_config(entry, configuration["credentials"]).load("source_rows")
    rows, *_ = to_contract(source, contract, options)
    prepare(database_url(), contract)

    stopping = until_stopped()
    click.echo(f"Writing {size} row(s) every {every.total_seconds():g} s into {contract.table}.")
    written, rejected = stream_batches(
        rows, contract, options, stopping, size=size, every=every, **limits
    )
    rejects = f"; {rejected} others were rejected, see table rejected_rows" if rejected else ""
    click.echo(f"Stopped after {written} row(s){rejects}.")


@click.command()
@with_project
@_follow
@_batch_size
@click.option("--from-start", is_flag=True, help="Score earlier and rejected rows, too.")
@click.option("--uninstall", is_flag=True, help="Queue no rows any more; predictions stay.")
def score(
    project: Project, follow: bool, batch_size: int, from_start: bool, uninstall: bool
) -> None:
    """Score new rows of the table of observations with the deployed release.

    The first use adds a trigger to the table, which queues every row that is inserted from then
    on. Predictions go to the table <contract>_prediction, rows that do not fit the contract to
    scoring_rejects. Any number of these processes may run at once.
    """
    from mlops_for_mle.pipelines.scoring import following

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
    _score(following.Follower(contract, release_store(), batch_size), follow, "row")


@click.command(name="score-topic")
@click.argument("topic")
@with_project
@_follow
@_batch_size
@click.option("--group-id", envvar="KAFKA_GROUP_ID", help="The default is <contract>-scoring.")
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
    arguments = (project.contract, release_store(), batch_size, topic, settings, output_topic)
    _score(TopicFollower(*arguments), follow, "message")


def _make_tables(project: Project) -> None:
    from mlops_for_mle.database.engine import database_url
    from mlops_for_mle.database.schema import ensure_predictions, prepare

    prepare(database_url(), project.contract)
    ensure_predictions(database_url(), project.contract)


def _score(follower: "Follower", follow: bool, unit: str) -> None:
    with closing(follower):
        follower.run(until_stopped(), follow=follow)
    rejected = f", rejected {follower.rejected} (see scoring_rejects)" if follower.rejected else ""
    click.echo(f"Scored {follower.scored} {unit}(s){rejected}.")


@click.command()
@with_project
@click.option("--every", default="10m", show_default=True, type=duration(timedelta(seconds=1)))
@click.option("--rounds", type=click.IntRange(1), help="Stop after so many; without, go on.")
@click.option(
    "--webhook", envvar="MLOPS_ALERT_WEBHOOK", show_envvar=True, help="A URL to tell decisions."
)
def watch(project: Project, every: timedelta, rounds: int | None, webhook: str | None) -> None:
    """Monitor the deployed release, decide, and retrain when that is called for.

    Each round runs the pipeline monitoring and, if its decision says so, the pipeline retrain.
    What fails is tried again in the next round, a retraining more and more seldom. Ctrl-C or
    SIGTERM ends it at once.
    """
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    told = list[int]()

    def end(number: int, _: object) -> NoReturn:
        # Remembered, since Python drops what is raised in a weakref's callback, for example.
        told.append(number)
        raise KeyboardInterrupt

    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, end)
    click.echo(f"Watching {project.contract.name} every {every.total_seconds():g} s.")
    last_sent, failures, next_try = "none", 0, 0
    try:
        for number in count(1):
            try:
                decision = run_pipeline(project, "monitoring")["retraining_decision"].load()
                if webhook and decision.decision != last_sent and send_webhook(webhook, decision):
                    last_sent = decision.decision
                is_open = decision.decision == "retrain" and decision.acted_at is None
                if is_open and number >= next_try and not told:
                    # One round later, then 2, 4, 8, at last 32: each failed one costs a training.
                    failures, next_try = failures + 1, number + 2 ** min(failures, 5)
                    run_pipeline(project, "retrain")
                    failures, next_try = 0, 0
            except Exception as error:
                if number == rounds:
                    raise
                _LOGGER.warning("%s; will be tried again", " ".join(error_message(error).split()))
            if number == rounds:
                return
            if told:
                raise KeyboardInterrupt
            time.sleep(every.total_seconds())
    except KeyboardInterrupt:
        click.echo("Stopped.")


def send_webhook(webhook: str, decision: "RetrainingDecision") -> bool:
    """Send a decision as JSON, with a ``text`` that chats show; whether that has succeeded."""
    text = f"{decision.contract}: {decision.decision}. {' '.join(decision.reasons)}"
    body = json.dumps({"text": text, **vars(decision)}, default=str).encode()
    try:
        request = Request(webhook, body, {"Content-Type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=5):  # noqa: S310
            return True
    except (OSError, ValueError, HTTPException) as error:
        # The address, which may be a secret, is named by some messages in full.
        reason = getattr(error, "reason", type(error).__name__)
        _LOGGER.warning("decision=%s was not told to the webhook: %s", decision.id, reason)
        return False


def run_pipeline(project: Project, pipeline: str) -> dict[str, Any]:
    """Run a pipeline in a session of its own; gives the entries that it has written last."""
    from kedro.framework.session import KedroSession

    session: Any
    with KedroSession.create(project_path=project.folder, env=project.env) as session:
        return dict(session.run(pipeline_names=[pipeline]))


@click.group(name="mlflow")
def mlflow_commands() -> None:
    """MLflow's page."""


@mlflow_commands.command()
@with_project
@click.option("--host", "-h", help="Address to listen on, as in mlflow.yml.")
@click.option("--port", "-p", help="Port to listen on, as in mlflow.yml.")
def ui(project: Project, host: str | None, port: str | None) -> None:
    """Look at experiments, runs and models in MLflow's page."""
    configuration = project.configuration["mlflow"]
    server, page = configuration["server"], configuration["ui"]
    store, registry = server["mlflow_tracking_uri"], server.get("mlflow_registry_uri")
    if store.startswith("http"):
        click.echo(f"MLflow's page is at {without_secrets(store)}")
        return
    address, listen_port = host or page["host"], str(port or page["port"])
    command = [sys.executable, "-m", "mlflow", "ui", "--host", address, "--port", listen_port]
    quiet = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # kedro-mlflow would name the store, and with it an external database's password, among the
    # arguments, which everybody on the machine can read.
    stores = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_REGISTRY_STORE_URI": registry or store}
    environment = {**os.environ, **stores, "PYTHONWARNINGS": "ignore"}
    click.echo(f"MLflow's page will be at http://{address}:{listen_port} (Ctrl-C ends it)")
    stopping = until_stopped()
    # In a session of its own, since a Ctrl-C that reached it would end in a traceback.
    with subprocess.Popen([*command, *quiet], env=environment, start_new_session=True) as server:
        while server.poll() is None and not stopping.wait(0.2):
            pass
        server.terminate()
    sys.exit(0 if stopping.is_set() else 1)
