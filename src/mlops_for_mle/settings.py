"""Kedro's settings of the project."""

from mlops_for_mle.config_loader import ProjectConfigLoader
from mlops_for_mle.hooks import ProjectHooks
from mlops_for_mle.resolvers import RESOLVERS
from mlops_for_mle.startup import prepare_process
from mlops_for_mle.tracking import DeferredMlflowHook

prepare_process()

# Replaced by DeferredMlflowHook; telemetry would edit pyproject.toml and wait for a server.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-telemetry")
HOOKS = (ProjectHooks(), DeferredMlflowHook())

CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": RESOLVERS,
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
