"""The rules of the house that import-linter does not see."""

import re
import subprocess
from itertools import pairwise

import pytest

from mlops_for_mle.paths import project_path
from mlops_for_mle.pipeline_registry import register_pipelines
from tests.releases import IRIS_CONTRACT

# What `kedro run` runs without a name, in this order.
LINE = ("data_ingestion", "training", "registry", "deployment")


def names_of(pipeline: str) -> set[str]:
    return {node.name for node in register_pipelines()[pipeline].nodes}


@pytest.mark.parametrize(("earlier", "later"), pairwise(LINE))
def test_no_step_of_a_pipeline_can_run_before_the_pipeline_in_front_of_it(earlier, later):
    line, before = register_pipelines()["__default__"], names_of(earlier)
    for name in names_of(later):
        assert before & {node.name for node in line.to_nodes(name).nodes}, name


def test_the_default_pipeline_holds_every_node_once_and_reads_nothing_else():
    line = register_pipelines()["__default__"]
    names = [node.name for node in line.nodes]

    assert len(set(names)) == len(names)
    assert set(names) == set().union(*(names_of(name) for name in LINE))
    read = {name for name in line.inputs() if not name.startswith("params:")}
    assert read == {"source_rows", "incumbent"}


def test_nothing_in_the_code_names_a_column_or_a_class_of_the_shipped_table():
    source, contract = project_path() / "src/mlops_for_mle", IRIS_CONTRACT
    names = {contract.name, contract.table, contract.target.response_name}
    names |= {*contract.features, *contract.target.labels.values()}
    assert {"iris", "iris_data", "petal_width", "setosa"} <= names
    pattern = rf"(^|[^a-z])({'|'.join(map(re.escape, names))})([^a-z]|$)"
    kinds = [f"--include=*.{kind}" for kind in ("py", "js", "html", "mako", "css")]
    search = ["grep", "-rniE", pattern, *kinds, source]
    found = subprocess.run(search, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
