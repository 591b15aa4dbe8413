"""An ingestion starts fast because it imports little; benchmarks/start_up.py measures it."""

import re

import pytest

from tests.end_to_end.commands import Project, finish

pytestmark = pytest.mark.end_to_end

# Each takes from a tenth of a second to a second.
SPARED = {"hypothesis", "matplotlib", "onnx", "pyarrow.dataset", "skl2onnx", "sklearn", "skops"}


def test_an_ingestion_imports_nothing_that_only_others_need(project: Project) -> None:
    # The first one reads scikit-learn's table and keeps it.
    project.succeed("run", "--pipeline", "data_ingestion")
    watched = Project(project.folder, {"PYTHONPROFILEIMPORTTIME": "1"})

    said = finish(watched.start("run", "--pipeline", "data_ingestion")).errors

    imported = set(re.findall(r"^import time:.*\| +(\S+)$", said, re.M))
    assert {"kedro.framework.cli", "pandas", "sqlalchemy"} <= imported
    assert not imported & SPARED
