"""`kedro mlflow`: kedro-mlflow's commands, of which `ui` is told the database more discreetly."""

import os
import signal
import subprocess
import sys
from typing import Any

import click
from kedro.framework.startup import ProjectMetadata
from kedro_mlflow.framework.cli.cli import init, modelify
from kedro_mlflow.framework.cli.cli import mlflow_commands as kedro_mlflow_commands

from mlops_for_mle.commands.options import env_option

# MLflow 3.17 imports a module that Starlette deprecates.
_DROPPED = "ignore:starlette.middleware.wsgi is deprecated"


@click.command()
@env_option
@click.option("--host", "-h", default=None, help="Address to listen on, as in mlflow.yml.")
@click.option("--port", "-p", default=None, help="Port to listen on, as in mlflow.yml.")
@click.pass_obj
def ui(metadata: ProjectMetadata, env: str | None, host: str | None, port: str | None) -> None:
    """Look at experiments, runs and models in MLflow's page.

    Where MLFLOW_TRACKING_URI names an MLflow server, that one has the page.
    """
    from kedro.framework.session import KedroSession

    context: Any = KedroSession.create(project_path=metadata.project_path, env=env).load_context()
    store = context.mlflow.server.mlflow_tracking_uri
    if store.startswith("http"):
        click.echo(f"MLflow's page is at {store}")
        click.launch(store)
        return
    address, listening = host or context.mlflow.ui.host, port or context.mlflow.ui.port
    command = [sys.executable, "-m", "mlflow", "ui", "--host", address, "--port", listening]
    # kedro-mlflow would name the store, and with it an external database's password, among the
    # arguments, which everybody on the machine can read.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_REGISTRY_STORE_URI": store,
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), _DROPPED])),
    }
    click.echo(f"MLflow's page will be at http://{address}:{listening} (Ctrl-C ends it)")
    # For one person; the page says what it is asked for, so the log need not. In a session of its
    # own, since a Ctrl-C that reached it directly would end in a traceback.
    quiet = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    server = subprocess.Popen([*command, *quiet], env=environment, start_new_session=True)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        server.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    code = server.wait()
    # MLflow's own code is 0 when its server has failed.
    sys.exit(0 if stopped else code or 1)


mlflow_commands = click.Group("mlflow", [init, modelify, ui], help=kedro_mlflow_commands.help)
