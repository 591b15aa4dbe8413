"""`kedro mlflow`: kedro-mlflow's commands, of which `ui` is told the database more discreetly."""

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.errors import UserError, friendly

# MLflow 3.17 imports a module that Starlette deprecates.
_DROPPED = "ignore:starlette.middleware.wsgi is deprecated"


class _MlflowCommands(click.Group):
    """kedro-mlflow's group, with commands of ours in front."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in order."""
        return sorted({*super().list_commands(ctx), *_theirs().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Ours, else kedro-mlflow's."""
        return super().get_command(ctx, cmd_name) or _theirs().get_command(ctx, cmd_name)


def _theirs() -> click.Group:
    from kedro_mlflow.framework.cli.cli import mlflow_commands

    found: click.Group = mlflow_commands
    return found


@click.group(name="mlflow", cls=_MlflowCommands)
def mlflow_commands() -> None:
    """MLflow's page, and what else kedro-mlflow offers."""


@mlflow_commands.command()
@click.option("--env", "-e", default="local", envvar="KEDRO_ENV", help="A folder of conf.")
@click.option("--host", "-h", default=None, help="Address to listen on, as in mlflow.yml.")
@click.option("--port", "-p", default=None, help="Port to listen on, as in mlflow.yml.")
@click.pass_obj
@friendly
def ui(metadata: ProjectMetadata, env: str, host: str | None, port: str | None) -> None:
    """Look at experiments, runs and models in MLflow's page.

    Where MLFLOW_TRACKING_URI names an MLflow server, that one has the page.
    """
    from kedro.framework.session import KedroSession

    context: Any = KedroSession.create(project_path=metadata.project_path, env=env).load_context()
    options = context.mlflow
    store = options.server.mlflow_tracking_uri
    if store.startswith("http"):
        click.echo(f"MLflow's page is at {store}")
        click.launch(store)
        return
    address, listening = host or options.ui.host, port or options.ui.port
    _require_free(address, listening)
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "ui", "--host", address, "--port", listening),
            # For one person; the page says what it is asked for, so the log need not.
            *("--workers", "1", "--uvicorn-opts", "--log-level warning"),
        ],
        env={
            **os.environ,
            # kedro-mlflow would name the store, and with it an external database's password, among
            # the arguments, which everybody on the machine can read.
            "MLFLOW_BACKEND_STORE_URI": store,
            "MLFLOW_REGISTRY_STORE_URI": store,
            "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), _DROPPED])),
        },
        # A Ctrl-C that reached it directly would end in a traceback.
        start_new_session=True,
    )
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        server.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    click.echo(f"MLflow's page will be at http://{address}:{listening} (Ctrl-C ends it)")
    code = server.wait()
    # MLflow's own code is 0 when its server has failed.
    sys.exit(0 if stopped else code or 1)


def _require_free(host: str, port: str) -> None:
    try:
        with socket.create_server((host, int(port))):
            pass
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"MLflow's page cannot listen on {host}:{port}: {error}") from None
