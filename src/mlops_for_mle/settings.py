"""Kedro's settings of the project.

Kedro reads them before it loads its plugins, so the telemetry and the warnings of other packages
are limited here, too. MLflow is imported later, since it reads its environment then.
"""

import atexit
import gc
import os
import warnings
from typing import Any

# Kedro's telemetry edits pyproject.toml and waits for a server; MLflow's job workers would be
# fourteen more processes behind `kedro mlflow ui`.
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Half a minute for a server that restarts; the default of 7 would be four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Else a contract of some 1,000 features is refused: its limit is against files of strangers.
    "OMEGACONF_MAX_YAML_EXPANDED_NODES": "none",
    "ORT_DISABLE_TELEMETRY": "1",
    # Its errors are shown to people as they are.
    "PYDANTIC_ERRORS_INCLUDE_URL": "false",
}

# Kedro and MLflow set their own filters for what plugins have to mend, so it can only be dropped
# where it is shown.
_SUPPRESSED_WARNINGS = (
    "Add type hints to the `predict` method",
    "Option '--pipeline' is deprecated",
    "IProgress not found",
    "register_new_resolver() is deprecated",
)
_show_warning_as_before = warnings.showwarning


def _show_warning(message: Warning | str, *details: Any, **options: Any) -> None:
    if not any(text in str(message) for text in _SUPPRESSED_WARNINGS):
        _show_warning_as_before(message, *details, **options)


warnings.showwarning = _show_warning
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
# Imports make half a million objects that stay. Python's default would look through them again
# after every 700, a tenth of the time a command takes to start, and twice more as it ends.
gc.set_threshold(50_000)
atexit.register(gc.freeze)

from mlops_for_mle.config import RESOLVERS, ProjectConfigLoader  # noqa: E402
from mlops_for_mle.hooks import ProjectHooks  # noqa: E402

# kedro-mlflow's hook is replaced by ours.
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
