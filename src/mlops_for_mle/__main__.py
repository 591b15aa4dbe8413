"""`python -m mlops_for_mle`: runs the pipelines, as `kedro run` does."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **options: Any) -> Any:
    """Run the project's `run` command."""
    configure_project(Path(__file__).parent.name)
    run = find_run_command(Path(__file__).parent.name)
    options["standalone_mode"] = not hasattr(sys, "ps1")
    return run(*args, **options)


if __name__ == "__main__":
    main()
