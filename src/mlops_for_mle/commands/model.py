"""`kedro model`: versions, releases and deployments for people.

Whatever changes something calls the functions of the pipelines.
"""

from pathlib import Path
from typing import NamedTuple

import click
from kedro.framework.startup import ProjectMetadata
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, table

from mlops_for_mle.commands.explain import explain_row
from mlops_for_mle.commands.options import env_option, reason_option
from mlops_for_mle.commands.project import connect_mlflow, read_configuration
from mlops_for_mle.commands.reproduce import train_again
from mlops_for_mle.config import public_address, release_store
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.schema import require_tables
from mlops_for_mle.database.tables import rejected_rows
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.pipelines.deployment.datasets import actor
from mlops_for_mle.pipelines.deployment.nodes import release_champion, verify_release
from mlops_for_mle.pipelines.registry import datasets as registry
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import ModelDescription
from mlops_for_mle.releases.metrics import metric_text
from mlops_for_mle.releases.store import ReleaseStore


class Project(NamedTuple):
    """Whose models, what decides, and where everything is."""

    contract: Contract
    metric: str
    url: str
    client: MlflowClient
    store: ReleaseStore


@click.group(name="model")
def model_commands() -> None:
    """Model versions: list, download, reproduce, explain, promote, roll back."""


@model_commands.command(name="list")
@env_option
@click.pass_obj
def list_versions(metadata: ProjectMetadata, env: str | None) -> None:
    """Show every version with its metric, its alias and who serves it."""
    project = open_project(metadata.project_path, env)
    client, name = project.client, project.contract.name
    known = registry.versions(client, name)
    if not known:
        raise PrerequisiteError(f"There is no version of {name} yet: run `kedro run` first.")
    champion = registry.champion_version(client, name)
    with engine_for(project.url).connect() as connection:
        deployed = deployments.history(connection, name)
    releases = {row.model_version: row.release for row in reversed(deployed)}
    drawn = Table(title=f"Versions of {name}", title_justify="left")
    for heading in ("version", project.metric, "decision", "alias", "release", "run"):
        drawn.add_column(heading)
    for version in known:
        release = releases.get(int(version.version), "")
        is_served = bool(deployed) and release == deployed[0].release
        drawn.add_row(
            str(version.version),
            _metric(client, version, project.metric) or "not measured",
            version.tags.get(registry.DECISION_TAG, "undecided"),
            "champion" if champion and champion.version == version.version else "",
            f"{release} (served)" if is_served else release,
            version.run_id,
        )
    Console(width=140).print(drawn)


@model_commands.command()
@env_option
@click.pass_obj
def summary(metadata: ProjectMetadata, env: str | None) -> None:
    """Show where the project stands: rows, candidate, champion, release, how to serve."""
    project = open_project(metadata.project_path, env)
    click.echo(project_summary(project.contract, project.metric, project.url, env))


@model_commands.command()
@click.argument("wanted")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@env_option
@click.pass_obj
def download(metadata: ProjectMetadata, wanted: str, folder: Path, env: str | None) -> None:
    """Download the version WANTED (a number, an alias or a run id) into FOLDER."""
    project = open_project(metadata.project_path, env)
    version = registry.find_version(project.client, project.contract.name, wanted)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name another folder, or empty it.")
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{version.name}/{version.version}"
    click.echo(f"Downloaded to {download_artifacts(uri, dst_path=str(folder))}.")


@model_commands.command()
@click.argument("wanted")
@env_option
@click.pass_context
def reproduce(context: click.Context, wanted: str, env: str | None) -> None:
    """Train the version WANTED again and say whether it becomes the same model.

    It is trained from its recorded rows and options, by the present code. The exit code is 1 when
    metrics or predictions differ.
    """
    project = open_project(context.obj.project_path, env)
    version = registry.find_version(project.client, project.contract.name, wanted)
    is_identical, report = train_again(project.client, version)
    click.echo(report)
    context.exit(0 if is_identical else 1)


@model_commands.command()
@click.argument("row")
@env_option
@click.pass_obj
def explain(metadata: ProjectMetadata, row: str, env: str | None) -> None:
    """Say why the deployed release answers ROW as it does.

    ROW is an object of JSON as POST /predict takes it, or the path of a file that holds one.
    """
    project = open_project(metadata.project_path, env)
    with engine_for(project.url).connect() as connection:
        served = deployments.current(connection, project.contract.name)
    if served is None:
        raise PrerequisiteError("Nothing is deployed yet: run `kedro run` first.")
    release = project.store.fetch(served.contract, served.release)
    given = row.encode() if row.lstrip().startswith("{") else Path(row).read_bytes()
    Console().print(explain_row(release, given))


@model_commands.command()
@click.argument("wanted")
@reason_option
@env_option
@click.pass_obj
def promote(metadata: ProjectMetadata, wanted: str, reason: str, env: str | None) -> None:
    """Make the version WANTED champion and deploy it, whatever the gates said."""
    project = open_project(metadata.project_path, env)
    client, name = project.client, project.contract.name
    version = registry.find_version(client, name, wanted)
    number = str(version.version)
    releases, released = release_champion(registry.load_version(version))
    for release in releases:
        project.store.publish(release)
    (manifest,) = verify_release(released, project.store.fetch)
    client.set_model_version_tag(name, number, registry.DECISION_TAG, "promoted by hand")
    client.set_model_version_tag(name, number, registry.REASONS_TAG, reason)
    client.set_registered_model_alias(name, registry.CHAMPION, number)
    with engine_for(project.url).connect() as connection:
        row = deployments.deploy(connection, manifest, reason=reason, actor=actor())
    already = " already" if row is None else ""
    click.echo(f"Version {number} is champion; release {manifest.release} is deployed{already}.")


@model_commands.command()
@click.argument("release", required=False)
@reason_option
@env_option
@click.pass_obj
def rollback(metadata: ProjectMetadata, release: str | None, reason: str, env: str | None) -> None:
    """Serve an earlier RELEASE again; without a name the one before, and twice goes back twice."""
    project = open_project(metadata.project_path, env)
    name = project.contract.name
    with engine_for(project.url).connect() as connection:
        row = deployments.roll_back(
            connection, project.store, name, reason=reason, actor=actor(), release=release
        )
        _, before = deployments.history(connection, name, limit=2)
    # MLflow comes last: what is served has changed, whether it answers or not.
    click.echo(f"Rolled back from {before.release} to {row.release}; ", nl=False)
    version = str(row.model_version)
    project.client.set_registered_model_alias(name, registry.CHAMPION, version)
    click.echo(f"version {version} is champion again.")


def open_project(path: Path, env: str | None) -> Project:
    """Read the project's configuration and find its tables, its MLflow and its releases."""
    parameters = read_configuration(path, env)["parameters"]
    contract, metric = parameters["contract"], parameters["gates"]["metric"]
    url = database_url()
    require_tables(url)
    connect_mlflow()
    store = ReleaseStore(release_store())
    return Project(Contract.model_validate(contract), metric, url, MlflowClient(), store)


def project_summary(
    contract: Contract, metric: str, url: str, env: str | None, candidate: str | None = None
) -> str:
    """Say in a few lines where the project stands, of a run's candidate or the newest version."""
    client, name = MlflowClient(), contract.name
    with engine_for(url).connect() as connection:
        served = deployments.current(connection, name)
        count = select(func.count())
        rows = connection.scalar(count.select_from(table(contract.table)))
        rejected = connection.scalar(count.where(rejected_rows.c.table_name == contract.table))
    lines = {"rows": f"{rows} in {contract.table}, {rejected} rejected"}
    known = registry.versions(client, name)[:1]
    if candidate is not None:
        known = [registry.find_version(client, name, candidate)]
    for told in known:
        lines["candidate"] = _measured(client, told, metric)
        lines |= _training_lines(registry.load_version(told).manifest)
        lines["decision"] = registry.decision_on(told)
    champion = registry.champion_version(client, name)
    lines["champion"] = "none yet"
    if champion is not None:
        lines["champion"] = _measured(client, champion, metric)
    lines["release"] = "none deployed yet"
    if served is not None:
        since = served.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        lines["release"] = f"{served.release}, deployed {since}"
        command = f"kedro serve --env {env}" if env else "make serve"
        if public_address("API"):
            lines["served at"] = public_address("API")
        else:
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


def _metric(client: MlflowClient, version: ModelVersion, metric: str) -> str | None:
    value = client.get_run(version.run_id).data.metrics.get(f"validation_{metric}")
    return None if value is None else metric_text(value)


def _measured(client: MlflowClient, version: ModelVersion, metric: str) -> str:
    value = _metric(client, version, metric)
    told = f"{metric} not measured" if value is None else f"validation {metric} {value}"
    return f"version {version.version}, {told}"
