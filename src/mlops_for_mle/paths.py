"""Where the project's folders are; imports nothing, so that every process can afford it."""

import os
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[1]
IS_WHEEL = _SOURCE.name != "src"


def project_path() -> Path:
    """``MLOPS_PROJECT_PATH``, else the folder that holds ``src``, or the current one of a wheel."""
    default = "" if IS_WHEEL else _SOURCE.parent
    return Path(os.environ.get("MLOPS_PROJECT_PATH") or default).resolve()


def embedded_home() -> Path:
    """Where the embedded server keeps its cluster."""
    return project_path() / "data" / "postgres"
