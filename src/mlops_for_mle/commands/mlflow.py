"""`kedro mlflow`, without `init`, which would lay another mlflow.yml over the project's."""

import os
import subprocess
import sys

import click
from kedro_mlflow.framework.cli.cli import modelify

from mlops_for_mle.commands.project import Project, until_stopped, with_project
from mlops_for_mle.errors import without_secrets


@click.command()
@with_project
@click.option("--host", "-h", default=None, help="Address to listen on, as in mlflow.yml.")
@click.option("--port", "-p", default=None, help="Port to listen on, as in mlflow.yml.")
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


mlflow_commands = click.Group("mlflow", [modelify, ui], help="MLflow's page, pipelines as models.")
