"""What commands that run no pipeline share: the project's configuration, and how they end."""

import logging
import signal
from pathlib import Path
from threading import Event, Thread

from mlops_for_mle.config import ProjectConfigLoader, mlflow_tracking_uri
from mlops_for_mle.contract import Contract


def read_configuration(path: Path, env: str | None = None) -> ProjectConfigLoader:
    """What ``conf`` of a project holds for an environment; None means ``local``."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(path)
    return ProjectConfigLoader(str(path / "conf"), env=env, **settings.CONFIG_LOADER_ARGS)


def read_contract(path: Path, env: str | None = None) -> Contract:
    """The contract of an environment."""
    return Contract.model_validate(read_configuration(path, env)["parameters"]["contract"])


def connect_mlflow() -> None:
    """Point MLflow's client at the project's tracking server or store."""
    import mlflow

    from mlops_for_mle.hooks import tracking_variable_kept

    with tracking_variable_kept():
        mlflow.set_tracking_uri(mlflow_tracking_uri())


def until_stopped() -> Event:
    """What SIGINT and SIGTERM set from now on, instead of ending the process; progress is told."""
    stopping = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # By a thread, since this one may be interrupted where it holds the event's own lock.
        signal.signal(number, lambda *_: Thread(target=stopping.set).start())
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    return stopping
