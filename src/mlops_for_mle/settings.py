"""Kedro's settings of the project."""

from mlops_for_mle.startup import prepare_process

prepare_process()

# Only now, because importing kedro-mlflow imports MLflow, which reads its environment.
from mlops_for_mle.config import RESOLVERS, ProjectConfigLoader  # noqa: E402
from mlops_for_mle.hooks import ProjectHooks  # noqa: E402

# kedro-mlflow's hook is replaced by ours; telemetry would edit pyproject.toml and wait for a
# server.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-telemetry")
HOOKS = (ProjectHooks(),)

CONFIG_LOADER_CLASS = ProjectConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"contract": ["contract*"], "mlflow": ["mlflow*"]},
    "custom_resolvers": RESOLVERS,
    "merge_strategy": {"globals": "soft", "mlflow": "soft", "parameters": "soft"},
}
