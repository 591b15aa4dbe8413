"""The rules of the house that import-linter does not see."""

import os
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mlops_for_mle.paths import project_path
from mlops_for_mle.pipeline_registry import register_pipelines
from tests.expectations import run
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


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(project_path() / "src", tmp_path / "src")
    shutil.copy(project_path() / "pyproject.toml", tmp_path)
    return tmp_path


def run_in(folder, *command):
    """What a command says in a copy of the project, and its exit status."""
    env = os.environ | {"PYTHONPATH": str(folder / "src")}
    found = run(*command, cwd=folder, env=env)
    return found.returncode, found.stdout + found.stderr


@pytest.mark.parametrize("language", ["", ".ko"])
def test_the_node_of_the_how_to_is_added_as_it_says(copy, language):
    how_to = (project_path() / f"docs/how-to/extend{language}.md").read_text("utf-8")
    function, step = re.findall("```python\n(.*?)```", how_to, re.DOTALL)
    folder = copy / "src/mlops_for_mle/pipelines/training"
    with (folder / "nodes.py").open("a") as nodes:
        nodes.write(f"\n\n{function}")
    wiring = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(wiring.replace("    return", f"    {step}    return"))

    names = "[node.name for node in register_pipelines()['training'].nodes]"
    program = f"from mlops_for_mle.pipeline_registry import register_pipelines; print({names})"
    status, output = run_in(copy, sys.executable, "-c", program)
    assert (status, "'count_classes'" in output) == (0, True), output


def test_a_new_pipeline_may_not_import_another(copy):
    folder = copy / "src/mlops_for_mle/pipelines/summary"
    folder.mkdir()
    (folder / "__init__.py").touch()
    linter = Path(sys.executable).with_name("lint-imports")
    assert run_in(copy, linter, "--no-cache")[0] == 0
    (folder / "nodes.py").write_text("import mlops_for_mle.pipelines.training.split\n")
    status, output = run_in(copy, linter, "--no-cache")
    assert (status, "summary is not allowed to import" in output) == (1, True), output


def test_nothing_in_the_code_names_a_column_or_a_class_of_the_shipped_table():
    source, contract = project_path() / "src/mlops_for_mle", IRIS_CONTRACT
    names = {contract.name, contract.table, contract.target.response_name}
    names |= {*contract.features, *contract.target.labels.values()}
    assert {"iris", "iris_data", "petal_width", "setosa"} <= names
    pattern = rf"(^|[^a-z])({'|'.join(map(re.escape, names))})([^a-z]|$)"
    kinds = [f"--include=*.{kind}" for kind in ("py", "js", "html", "mako", "css")]
    found = run("grep", "-rniE", pattern, *kinds, source)
    assert (found.returncode, found.stdout) == (1, "")
