"""Which code and which environment made a model."""

import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from typing import Any

from mlops_for_mle.paths import project_path


def code_revision() -> dict[str, str]:
    """Tags that name the git commit, and whether the files differed from it.

    In an image there is no checkout; its build leaves the commit in ``MLOPS_CODE_REVISION``.
    Empty where neither tells.
    """
    commit = git("rev-parse", "HEAD")
    if commit is None:
        built_from = os.environ.get("MLOPS_CODE_REVISION", "").strip()
        known = built_from not in {"", "unknown"}
        return {"mlflow.source.git.commit": built_from} if known else {}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "mlflow.source.git.commit": commit,
        "mlops.code_is_committed": "no" if changes else "yes",
    }


def environment() -> dict[str, Any]:
    """The interpreter, the platform and every installed package with its version."""
    packages = {found.metadata["Name"]: found.version for found in distributions()}
    return {
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def git(*arguments: str, seconds: float = 10) -> str | None:
    """What git says in the project's folder; None when it fails or takes longer."""
    try:
        finished = subprocess.run(
            ["git", "-C", str(project_path()), *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()
