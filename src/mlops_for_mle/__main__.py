"""What `kedro package` makes: ``python -m mlops_for_mle`` is `kedro run` with the conf at hand."""

import sys

from kedro.framework.project import configure_project

configure_project("mlops_for_mle")
from mlops_for_mle.cli import cli  # noqa: E402

cli(["run", *sys.argv[1:]])
