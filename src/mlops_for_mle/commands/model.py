"""`kedro model`: versions, releases and deployments for people; where a project stands.

Whatever changes something calls the functions of the pipelines.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import click
import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from sqlalchemy import func, inspect, select, table

from mlops_for_mle.commands.project import Project, with_project
from mlops_for_mle.config import public_address, release_store
from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, frame_digest
from mlops_for_mle.database.engine import database_url, engine_for
from mlops_for_mle.database.schema import require_tables
from mlops_for_mle.database.tables import rejected_rows
from mlops_for_mle.errors import UserError
from mlops_for_mle.hooks import use_server
from mlops_for_mle.paths import IS_WHEEL
from mlops_for_mle.pipelines.deployment.datasets import actor
from mlops_for_mle.pipelines.registry import datasets as registry
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.metrics import format_metric
from mlops_for_mle.releases.predictor import Predictor, load_predictor
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
        use_server(project.configuration)
        function(project, **options)

    return command


@model_commands.command(name="list")
@_with_models
def list_versions(project: Project) -> None:
    """Show every version with its metric, its alias and who serves it."""
    client, name = MlflowClient(), project.contract.name
    metric = project.parameters["gates"]["metric"]
    versions = registry.versions(client, name)
    if not versions:
        raise UserError(f"There is no version of {name} yet: run `kedro run` first.")
    with engine_for(database_url()).connect() as connection:
        history = deployments.history(connection, name)
    champion = registry.champion_version(client, name, next(iter(history), None))
    measured = _measured(f"tags.`mlops.contract` = '{name}'", metric)
    # By the run, as another registry may have given the same number.
    releases = {row.run_id: row.release for row in reversed(history)}
    releases |= {row.run_id: f"{row.release} (served)" for row in history[:1]}
    rows = [
        {
            "version": version.version,
            metric: measured[version.run_id],
            "alias": "champion" if champion and champion.version == version.version else "",
            "decision": version.tags.get(registry.DECISION_TAG, "undecided"),
            "run": version.run_id,
            "release": releases.get(version.run_id, ""),
        }
        for version in versions
    ]
    click.echo(pd.DataFrame(rows).to_string(index=False))


@model_commands.command()
@_with_models
def summary(project: Project) -> None:
    """Show where the project stands: rows, candidate, champion, release, how to serve."""
    metric = project.parameters["gates"]["metric"]
    click.echo(project_summary(project.contract, metric, project.env))


def project_summary(
    contract: Contract, metric: str, env: str | None, candidate: str | None = None
) -> str:
    """Where the project stands, of a run's candidate or the newest version; ends `kedro run`."""
    client, name = MlflowClient(), contract.name
    with engine_for(database_url()).connect() as connection:
        deployment = deployments.current(connection, name)
        count, rows = select(func.count()), 0
        # A part of a pipeline may have run before there were rows.
        if inspect(connection).has_table(contract.table):
            rows = connection.scalar(count.select_from(table(contract.table))) or 0
        rejected = connection.scalar(count.where(rejected_rows.c.table_name == contract.table))
    lines = {"rows": f"{rows} in {contract.table}, {rejected} rejected"}
    versions = registry.versions(client, name)[:1]
    if candidate:
        versions = [registry.find_version(client, name, candidate)]
    for version in versions:
        manifest = registry.load_version(version).manifest
        lines["candidate"] = _with_metric(version, metric)
        if manifest.candidates:
            errors = ", ".join(
                f"{tried.estimator} {format_metric(tried.error)} ± {tried.standard_error:.2g}"
                for tried in manifest.candidates
            )
            measure = "log loss" if manifest.contract.target.classes else "rmse"
            rule = f"the simplest within a standard error of the best {measure}"
            lines["chosen"] = f"{manifest.estimator}, {rule}: {errors}"
        if manifest.remarks:
            lines["look at"] = "; ".join(manifest.remarks)
        decision = version.tags.get(registry.DECISION_TAG, "undecided")
        lines["decision"] = f"{decision}: {version.tags.get(registry.REASONS_TAG, '')}"
    lines["champion"] = "none yet"
    if champion := registry.champion_version(client, name, deployment):
        lines["champion"] = _with_metric(champion, metric)
    lines["release"] = "none deployed yet"
    if deployment is not None:
        since = deployment.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        lines["release"] = f"{deployment.release}, deployed {since}"
        if public_address("API"):
            lines["served at"] = public_address("API")
        else:
            command = f"kedro serve --env {env}" if env else "make serve"
            if IS_WHEEL:
                command = f"python -m mlops_for_mle.serving --model {name}"
            lines["serve it"] = f"{command}, then http://127.0.0.1:8000"
    return _aligned(lines)


def _aligned(lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"  {heading:<{width}}  {value}" for heading, value in lines.items())


def _with_metric(version: ModelVersion, metric: str) -> str:
    measured = _measured(f"attributes.run_id = '{version.run_id}'", metric)[version.run_id]
    return f"version {version.version}, validation {metric} {measured}"


def _measured(condition: str, metric: str) -> Mapping[str, str]:
    """The metric of runs, by their ids; one that is not there any more is not measured."""
    where = {"filter_string": condition, "search_all_experiments": True, "output_format": "list"}
    measured = defaultdict[str, str](lambda: "not measured")
    for run in mlflow.search_runs(**where):
        if (value := run.data.metrics.get(f"validation_{metric}")) is not None:
            measured[run.info.run_id] = format_metric(value)
    return measured


@model_commands.command()
@click.argument("wanted")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_with_models
def download(project: Project, wanted: str, folder: Path) -> None:
    """Download the version WANTED (a number, an alias or a run id) into FOLDER."""
    version = registry.find_version(MlflowClient(), project.contract.name, wanted)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name another folder, or empty it.")
    uri = f"models:/{version.name}/{version.version}"
    click.echo(f"Downloaded to {download_artifacts(uri, dst_path=str(folder))}.")


@model_commands.command()
@click.argument("wanted")
@_with_models
def reproduce(project: Project, wanted: str) -> None:
    """Train the version WANTED again and say whether it becomes the same model.

    It is trained from its recorded rows and options, by the present code.
    """
    from mlops_for_mle.pipelines.training import nodes
    from mlops_for_mle.pipelines.training.options import TrainingOptions

    client = MlflowClient()
    version = registry.find_version(client, project.contract.name, wanted)
    run, recorded = client.get_run(version.run_id), registry.load_version(version)
    manifest, snapshot = recorded.manifest, recorded.manifest.snapshot
    with TemporaryDirectory() as folder:
        uri = f"{run.info.artifact_uri}/snapshot/snapshot.parquet"
        rows = pd.read_parquet(download_artifacts(uri, dst_path=folder))
    title = f"Version {version.version} of {version.name}"
    if frame_digest(rows) != snapshot.sha256:
        raise UserError(f"{title}: its snapshot was altered, the digest is not that recorded.")
    rows.attrs.update(snapshot.model_dump())
    contract, training = manifest.contract, TrainingOptions.model_validate(manifest.training)
    examples, *_ = nodes.prepare_examples(rows, contract, training)
    trained = nodes.train_model(examples, training)
    metrics, matrix = nodes.evaluate_model(trained), encode_rows(rows, contract)
    before = _answers(Predictor(recorded.model, contract, manifest.threshold), matrix)
    changed = [
        f"{name} {manifest.metrics.get(name)} then, {value} now"
        for name, value in metrics.items()
        if manifest.metrics.get(name) != value
    ]
    if not before.equals(_answers(trained.predictor, matrix)):
        changed.append("predictions differ")
    click.echo(f"{title}, {snapshot.row_count} rows of {snapshot.source}: trained again")
    if changed:
        raise UserError(f"Not reproduced: {'; '.join(changed)}")
    click.echo("reproduced: identical metrics and predictions")


def _answers(predictor: Predictor, matrix: Any) -> pd.DataFrame:
    predictions = predictor.predict(matrix)
    return pd.DataFrame(predictions.probabilities).assign(answer=predictions.values)


@model_commands.command()
@click.argument("row", type=click.File("rb"))
@_with_models
def explain(project: Project, row: BinaryIO) -> None:
    """Say why the deployed release answers ROW as it does.

    ROW is the path of a file that holds an object of JSON as POST /predict takes it, or - to type
    it.
    """
    from mlops_for_mle.serving.codec import Form
    from mlops_for_mle.serving.releases import ServedRelease

    with engine_for(database_url()).connect() as connection:
        deployment = deployments.require_deployment(connection, project.contract.name)
    release = ReleaseStore(release_store()).fetch(deployment.contract, deployment.release)
    served = ServedRelease(release, deployment, "store")
    target, codec = served.contract.target, served.codec
    rows = codec.read(row.read())
    if rows.form is not Form.ONE:
        raise UserError(f"One row is explained at a time: {codec.row_words}.")
    matrix = codec.matrix(rows)
    (code,), _ = served.predictor.predict(matrix)
    explanation = served.explainer.explain(matrix[0])
    answer = target.labels[int(code)] if target.classes else format_metric(code)
    lines = {"mean of training rows": format_metric(explanation.base)}
    contributions = sorted(explanation.contributions.items(), key=lambda one: -abs(one[1]))
    lines |= {name: f"{contribution:+.4g}" for name, contribution in contributions}
    lines["this row"] = format_metric(explanation.value)
    click.echo(f"{target.response_name} {answer}, by its {explanation.explained}")
    click.echo(_aligned(lines))


@model_commands.command()
@click.argument("wanted")
@_reason_option
@_with_models
def promote(project: Project, wanted: str, reason: str) -> None:
    """Make the version WANTED champion and deploy it, whatever the gates said."""
    client, name, store = MlflowClient(), project.contract.name, ReleaseStore(release_store())
    version = registry.find_version(client, name, wanted)
    number, release = str(version.version), registry.load_version(version)
    # As it was trained and as it is stored, it has to answer its example.
    load_predictor(release)
    store.publish(release)
    load_predictor(store.fetch(name, release.manifest.release))
    client.set_model_version_tag(name, number, registry.DECISION_TAG, "promoted by hand")
    client.set_model_version_tag(name, number, registry.REASONS_TAG, reason)
    client.set_registered_model_alias(name, registry.CHAMPION, number)
    with engine_for(database_url()).connect() as connection:
        deployments.deploy(connection, release.manifest, reason=reason, actor=actor())
    click.echo(f"Version {number} is champion; release {release.manifest.release} is deployed.")


@model_commands.command()
@click.argument("release", required=False)
@_reason_option
@_with_models
def rollback(project: Project, release: str | None, reason: str) -> None:
    """Serve an earlier RELEASE again; without a name the one before, and twice goes back twice."""
    name, store = project.contract.name, ReleaseStore(release_store())
    with engine_for(database_url()).connect() as connection:
        deployment = deployments.roll_back(
            connection, store, name, reason=reason, actor=actor(), release=release
        )
        _, before = deployments.history(connection, name, limit=2)
    click.echo(f"Rolled back from {before.release} to {deployment.release}.")
    # MLflow comes last: what is served has changed, whether it answers or not.
    registry.champion_version(MlflowClient(), name, deployment)
