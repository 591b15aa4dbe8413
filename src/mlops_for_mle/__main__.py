"""What `kedro package` makes: ``python -m mlops_for_mle`` is `kedro run` with the conf at hand."""

import os
import sys
from pathlib import Path

from kedro.framework.project import configure_project

os.environ.setdefault("MLOPS_PROJECT_PATH", str(Path.cwd()))
configure_project("mlops_for_mle")
from mlops_for_mle.cli import cli  # noqa: E402

cli(["run", *sys.argv[1:]])
