"""`kedro model`: versions, releases and deployments for people.

Whatever changes something calls the functions of the pipelines.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, table

from mlops_for_mle.commands.project import Project, with_project
from mlops_for_mle.commands.reproduce import train_again
from mlops_for_mle.config import mlflow_tracking_uri, public_address, release_store
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.schema import require_tables
from mlops_for_mle.database.tables import rejected_rows
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.hooks import tracking_variable_kept
from mlops_for_mle.pipelines.deployment.datasets import actor
from mlops_for_mle.pipelines.deployment.nodes import release_champion, verify_release
from mlops_for_mle.pipelines.registry import datasets as registry
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import ModelDescription
from mlops_for_mle.releases.metrics import metric_text
from mlops_for_mle.releases.store import ReleaseStore

_reason_option = click.option("--reason", required=True, help="Why; recorded in the audit trail.")


@click.group(name="model")
def model_commands() -> None:
    """Model versions: list, download, reproduce, explain, promote, roll back."""


def _with_models(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the project, with MLflow's client pointed at its store."""

    @with_project
    @functools.wraps(function)
    def command(project: Project, **options: Any) -> None:
        require_tables(database_url())
        with tracking_variable_kept():
            mlflow.set_tracking_uri(mlflow_tracking_uri())
        function(project, **options)

    return command


@model_commands.command(name="list")
@_with_models
def list_versions(project: Project) -> None:
    """Show every version with its metric, its alias and who serves it."""
    client, name = MlflowClient(), project.contract.name
    known = registry.versions(client, name)
    if not known:
        raise PrerequisiteError(f"There is no version of {name} yet: run `kedro run` first.")
    champion = registry.champion_version(client, name)
    with engine_for(database_url()).connect() as connection:
        served = deployments.history(connection, name)
    releases = {row.model_version: row.release for row in reversed(served)}
    headings = ("version", project.metric, "decision", "alias", "release", "run")
    drawn = Table(*headings, title=f"Versions of {name}", title_justify="left")
    for version in known:
        release = releases.get(int(version.version), "")
        is_served = bool(served) and release == served[0].release
        drawn.add_row(
            str(version.version),
            _metric(client, version, project.metric),
            version.tags.get(registry.DECISION_TAG, "undecided"),
            "champion" if champion and champion.version == version.version else "",
            f"{release} (served)" if is_served else release,
            version.run_id,
        )
    Console(width=140).print(drawn)


@model_commands.command()
@_with_models
def summary(project: Project) -> None:
    """Show where the project stands: rows, candidate, champion, release, how to serve."""
    click.echo(project_summary(project.contract, project.metric, project.env))


@model_commands.command()
@click.argument("wanted")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_with_models
def download(project: Project, wanted: str, folder: Path) -> None:
    """Download the version WANTED (a number, an alias or a run id) into FOLDER."""
    version = registry.find_version(MlflowClient(), project.contract.name, wanted)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name another folder, or empty it.")
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{version.name}/{version.version}"
    click.echo(f"Downloaded to {download_artifacts(uri, dst_path=str(folder))}.")


@model_commands.command()
@click.argument("wanted")
@_with_models
def reproduce(project: Project, wanted: str) -> None:
    """Train the version WANTED again and say whether it becomes the same model.

    It is trained from its recorded rows and options, by the present code. The exit code is 1 when
    metrics or predictions differ.
    """
    client = MlflowClient()
    version = registry.find_version(client, project.contract.name, wanted)
    is_identical, report = train_again(client, version)
    click.echo(report)
    raise click.exceptions.Exit(0 if is_identical else 1)


@model_commands.command()
@click.argument("row")
@_with_models
def explain(project: Project, row: str) -> None:
    """Say why the deployed release answers ROW as it does.

    ROW is an object of JSON as POST /predict takes it, or the path of a file that holds one.
    """
    # The summary of every run imports this module, and needs nothing of what reads rows.
    from mlops_for_mle.commands.explain import explain_row

    with engine_for(database_url()).connect() as connection:
        served = deployments.deployed(connection, project.contract.name)
    release = ReleaseStore(release_store()).fetch(served.contract, served.release)
    given = row.encode() if row.lstrip().startswith("{") else Path(row).read_bytes()
    Console().print(explain_row(release, given))


@model_commands.command()
@click.argument("wanted")
@_reason_option
@_with_models
def promote(project: Project, wanted: str, reason: str) -> None:
    """Make the version WANTED champion and deploy it, whatever the gates said."""
    client, name, store = MlflowClient(), project.contract.name, ReleaseStore(release_store())
    version = registry.find_version(client, name, wanted)
    number = str(version.version)
    releases, released = release_champion(registry.load_version(version))
    for release in releases:
        store.publish(release)
    (manifest,) = verify_release(released, store.fetch)
    client.set_model_version_tag(name, number, registry.DECISION_TAG, "promoted by hand")
    client.set_model_version_tag(name, number, registry.REASONS_TAG, reason)
    client.set_registered_model_alias(name, registry.CHAMPION, number)
    with engine_for(database_url()).connect() as connection:
        row = deployments.deploy(connection, manifest, reason=reason, actor=actor())
    already = " already" if row is None else ""
    click.echo(f"Version {number} is champion; release {manifest.release} is deployed{already}.")


@model_commands.command()
@click.argument("release", required=False)
@_reason_option
@_with_models
def rollback(project: Project, release: str | None, reason: str) -> None:
    """Serve an earlier RELEASE again; without a name the one before, and twice goes back twice."""
    name, store = project.contract.name, ReleaseStore(release_store())
    with engine_for(database_url()).connect() as connection:
        row = deployments.roll_back(
            connection, store, name, reason=reason, actor=actor(), release=release
        )
        _, before = deployments.history(connection, name, limit=2)
    # MLflow comes last: what is served has changed, whether it answers or not.
    click.echo(f"Rolled back from {before.release} to {row.release}; ", nl=False)
    version = str(row.model_version)
    MlflowClient().set_registered_model_alias(name, registry.CHAMPION, version)
    click.echo(f"version {version} is champion again.")


def project_summary(
    contract: Contract, metric: str, env: str | None, candidate: str | None = None
) -> str:
    """Say in a few lines where the project stands, of a run's candidate or the newest version."""
    client = MlflowClient()
    with engine_for(database_url()).connect() as connection:
        served = deployments.current(connection, contract.name)
        count = select(func.count())
        rows = connection.scalar(count.select_from(table(contract.table)))
        rejected = connection.scalar(count.where(rejected_rows.c.table_name == contract.table))
    lines = {"rows": f"{rows} in {contract.table}, {rejected} rejected"}
    known = registry.versions(client, contract.name)[:1]
    if candidate:
        known = [registry.find_version(client, contract.name, candidate)]
    for told in known:
        lines["candidate"] = _measured(client, told, metric)
        lines |= _training_lines(registry.load_version(told).manifest)
        lines["decision"] = registry.decision_on(told)
    champion = registry.champion_version(client, contract.name)
    lines["champion"] = _measured(client, champion, metric) if champion else "none yet"
    lines["release"] = "none deployed yet"
    if served is not None:
        since = served.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        lines["release"] = f"{served.release}, deployed {since}"
        if public_address("API"):
            lines["served at"] = public_address("API")
        else:
            command = f"kedro serve --env {env}" if env else "make serve"
            lines["serve it"] = f"{command}, then http://127.0.0.1:8000"
    width = max(map(len, lines))
    return "\n".join(f"  {heading:<{width}}  {value}" for heading, value in lines.items())


def _training_lines(described: ModelDescription) -> dict[str, str]:
    """What was chosen in a training, and what a person should look at."""
    lines = {}
    if described.candidates:
        tried = (
            f"{one.estimator} {metric_text(one.error)} ± {metric_text(one.standard_error)}"
            for one in described.candidates
        )
        what = "log loss" if described.contract.target.classes else "rmse"
        lines["chosen"] = f"{described.estimator}, by {what}: {', '.join(tried)}"
    if described.threshold is not None:
        second = described.contract.target.classes[1].label
        lines["threshold"] = f"{second} from probability {described.threshold:g}"
    if described.remarks:
        lines["look at"] = "; ".join(described.remarks)
    return lines


def _metric(client: MlflowClient, version: ModelVersion, metric: str) -> str:
    value = client.get_run(version.run_id).data.metrics.get(f"validation_{metric}")
    return "not measured" if value is None else metric_text(value)


def _measured(client: MlflowClient, version: ModelVersion, metric: str) -> str:
    return f"version {version.version}, validation {metric} {_metric(client, version, metric)}"
