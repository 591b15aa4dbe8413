"""The project's configuration for commands that run no pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.framework.startup import bootstrap_project

from mlops_for_mle.config import RESOLVERS, ProjectConfigLoader
from mlops_for_mle.contract import Contract


@dataclass(frozen=True)
class ProjectConfiguration:
    """A Kedro environment's configuration, read but not acted on."""

    path: Path
    loader: ProjectConfigLoader

    @property
    def contract(self) -> Contract:
        """The contract of the environment."""
        return Contract.model_validate(self.loader["parameters"].get("contract"))

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters of the environment."""
        return dict(self.loader["parameters"])


def read_project(path: Path, env: str | None = None) -> ProjectConfiguration:
    """Read a project's configuration.

    Args:
        path: The project's folder.
        env: A folder of ``conf``; None means ``local``.
    """
    bootstrap_project(path)
    loader = ProjectConfigLoader(
        conf_source=str(path / "conf"),
        env=env,
        base_env="base",
        default_run_env="local",
        custom_resolvers=RESOLVERS,
    )
    return ProjectConfiguration(path, loader)


def connect_mlflow() -> None:
    """Point MLflow's client at the project's tracking server or store."""
    import mlflow

    from mlops_for_mle.config import mlflow_tracking_uri
    from mlops_for_mle.hooks import tracking_variable_kept

    with tracking_variable_kept():
        mlflow.set_tracking_uri(mlflow_tracking_uri())
