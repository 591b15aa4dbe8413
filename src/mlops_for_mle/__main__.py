"""What `kedro package` makes: ``python -m mlops_for_mle`` is `kedro run` with the conf at hand."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedro.framework.project import configure_project


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run with these arguments, else with those of the command line; notebooks get the outputs."""
    os.environ.setdefault("MLOPS_PROJECT_PATH", str(Path.cwd()))
    configure_project("mlops_for_mle")
    from mlops_for_mle.cli import cli

    given = sys.argv[1:] if arguments is None else arguments
    return cli(["run", *given], standalone_mode=not hasattr(sys, "ps1"))


if __name__ == "__main__":
    main()
