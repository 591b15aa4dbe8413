"""Runs before Kedro loads its plugins: decides what third parties may say and send.

Everything here is cheap and imports nothing heavy.
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
    "ORT_DISABLE_TELEMETRY": "1",
    # Its errors are shown to people as they are.
    "PYDANTIC_ERRORS_INCLUDE_URL": "false",
}

# Kedro and MLflow set their own filters for what plugins have to mend, so it can only be dropped
# where it is shown.
_DROPPED = (
    "Add type hints to the `predict` method",
    "Option '--pipeline' is deprecated",
    "IProgress not found",
    "register_new_resolver() is deprecated",
)
# Imports make half a million objects that stay; Python's default would look through them again
# after every 700, which is a tenth of the time a command takes to start.
_COLLECT_AFTER = 50_000

_show_warning_as_before = warnings.showwarning


def prepare_process() -> None:
    """Set defaults that a person may override, and drop warnings that only plugins can mend."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    after, *older = gc.get_threshold()
    if 0 < after < _COLLECT_AFTER:
        gc.set_threshold(_COLLECT_AFTER, *older)
        # Python would look through all of them twice more as it ends, for half a second.
        atexit.register(gc.freeze)
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *details: Any, **options: Any) -> None:
    if not any(text in str(message) for text in _DROPPED):
        _show_warning_as_before(message, *details, **options)
