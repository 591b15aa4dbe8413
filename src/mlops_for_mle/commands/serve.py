"""`kedro serve`: replaces itself by the prediction API."""

import os
import sys

import click

from mlops_for_mle.commands.project import Project, with_project
from mlops_for_mle.config import release_store


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
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    arguments = [sys.executable, "-m", "mlops_for_mle.serving", *given]
    # The process is replaced, so that the server carries nothing of Kedro and gets every signal.
    os.execve(sys.executable, arguments, environment)  # noqa: S606  (no shell is involved)
