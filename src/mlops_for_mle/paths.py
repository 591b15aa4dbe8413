"""Where the project's folders are; imports nothing, so that every process can afford it."""

import os
from pathlib import Path


def project_path() -> Path:
    """The project's folder: ``MLOPS_PROJECT_PATH``, else the folder that holds ``src``."""
    configured = os.environ.get("MLOPS_PROJECT_PATH")
    return Path(configured).resolve() if configured else Path(__file__).resolve().parents[2]


def embedded_home() -> Path:
    """Where the embedded server keeps its cluster."""
    return project_path() / "data" / "postgres"
