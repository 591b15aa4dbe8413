"""The rules of the house: who may import whom, and in which order the pipelines run."""

import ast
import inspect
from pathlib import Path

import pytest

from mlops_for_mle.pipeline_registry import register_pipelines

SIDE_EFFECTS = {"fastapi", "kedro", "mlflow", "psycopg2", "sqlalchemy"}
# Wherever the functions of nodes stand.
NODES = sorted(
    {
        Path(inspect.getfile(node.func))
        for pipeline in register_pipelines().values()
        for node in pipeline.nodes
    }
)

# What `kedro run` runs without a name, in this order.
LINE = ("data_ingestion", "training", "registry", "deployment")


def imported_packages(path: Path) -> set[str]:
    """Every package that a file imports anywhere, inside functions too."""
    found: set[str] = set()
    for part in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(part, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom) and part.module:
            found.add(part.module.partition(".")[0])
    return found


def names_of(pipeline: str) -> set[str]:
    return {node.name for node in register_pipelines()[pipeline].nodes}


def everything_before(name: str) -> set[str]:
    """All nodes that must have run before this one in the default pipeline."""
    dependencies = {
        node.name: {parent.name for parent in parents}
        for node, parents in register_pipelines()["__default__"].node_dependencies.items()
    }
    found: set[str] = set()
    waiting = set(dependencies[name])
    while waiting:
        found |= waiting
        waiting = {before for one in waiting for before in dependencies[one]} - found
    return found


@pytest.mark.parametrize("path", NODES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_nodes_import_nothing_with_side_effects(path: Path) -> None:
    assert not imported_packages(path) & SIDE_EFFECTS


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("data_ingestion", "training"), ("training", "registry"), ("registry", "deployment")],
)
def test_no_step_of_a_pipeline_can_run_before_the_pipeline_in_front_of_it(
    earlier: str, later: str
) -> None:
    free = [name for name in names_of(later) if not everything_before(name) & names_of(earlier)]

    assert not free


def test_the_default_pipeline_holds_every_node_once() -> None:
    pipelines = register_pipelines()
    names = [node.name for node in pipelines["__default__"].nodes]

    assert len(set(names)) == len(names)
    assert set(names) == set().union(*(names_of(name) for name in LINE))


def test_no_name_outside_the_catalog_is_a_free_input_of_the_whole_line() -> None:
    free = register_pipelines()["__default__"].inputs()

    assert {name for name in free if not name.startswith("params:")} == {"source_rows", "incumbent"}
