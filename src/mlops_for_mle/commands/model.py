"""`kedro model`: versions and releases for people."""

from pathlib import Path

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import env_option, reason_option
from mlops_for_mle.errors import friendly


@click.group(name="model")
def model_commands() -> None:
    """Model versions: list, download, reproduce, promote, roll back."""


@model_commands.command(name="list")
@env_option
@click.pass_obj
@friendly
def list_versions(metadata: ProjectMetadata, env: str | None) -> None:
    """Show every version with its metrics, its alias and who serves it."""
    from mlops_for_mle.commands.versions import open_registry, version_table

    click.echo(version_table(open_registry(metadata.project_path, env)))


@model_commands.command()
@env_option
@click.pass_obj
@friendly
def summary(metadata: ProjectMetadata, env: str | None) -> None:
    """Show where the project stands: rows, candidate, champion, release, how to serve."""
    from mlops_for_mle.commands.versions import open_registry, project_summary

    click.echo(project_summary(open_registry(metadata.project_path, env)))


@model_commands.command()
@click.argument("wanted")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@env_option
@click.pass_obj
@friendly
def download(metadata: ProjectMetadata, wanted: str, folder: Path, env: str | None) -> None:
    """Download the version WANTED (a number, an alias or a run id) into FOLDER."""
    from mlops_for_mle.commands.versions import download_version, open_registry

    path = download_version(open_registry(metadata.project_path, env), wanted, folder)
    click.echo(f"Downloaded to {path}.")


@model_commands.command()
@click.argument("wanted")
@env_option
@click.pass_context
@friendly
def reproduce(context: click.Context, wanted: str, env: str | None) -> None:
    """Train the version WANTED again and say whether it becomes the same model.

    It is trained from its recorded rows, options and code revision. The exit code is 1 when
    metrics or predictions differ.
    """
    from mlops_for_mle.commands.reproduce import reproduce as train_again
    from mlops_for_mle.commands.versions import open_registry

    outcome = train_again(open_registry(context.obj.project_path, env), wanted)
    click.echo(outcome.report)
    context.exit(0 if outcome.is_identical else 1)


@model_commands.command()
@click.argument("wanted")
@reason_option
@env_option
@click.pass_obj
@friendly
def promote(metadata: ProjectMetadata, wanted: str, reason: str, env: str | None) -> None:
    """Make the version WANTED champion and deploy it, whatever the gates said."""
    from mlops_for_mle.commands.versions import open_registry, promote_version

    click.echo(promote_version(open_registry(metadata.project_path, env), wanted, reason))


@model_commands.command()
@click.argument("release", required=False)
@reason_option
@env_option
@click.pass_obj
@friendly
def rollback(metadata: ProjectMetadata, release: str | None, reason: str, env: str | None) -> None:
    """Serve an earlier RELEASE again; without a name the one that was served before."""
    from mlops_for_mle.commands.versions import open_registry, roll_back

    click.echo(roll_back(open_registry(metadata.project_path, env), release, reason))
