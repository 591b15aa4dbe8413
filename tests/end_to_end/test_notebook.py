"""The tour notebook runs from its first cell to its last, in a project of its own."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.end_to_end.commands import Project

pytestmark = pytest.mark.end_to_end

NOTEBOOK = Path(__file__).parents[2] / "notebooks/00_tour.ipynb"


def test_the_tour_runs_and_ends_with_a_prediction(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.folder / "notebooks"
    folder.mkdir(exist_ok=True)
    for name in set(os.environ) - set(project.environment):
        monkeypatch.delenv(name)
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()

    shown = [
        output.data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    assert shown[-1] == "[2]"
    assert not list(folder.iterdir()), "what it keeps belongs into data"
    assert project.query("SELECT event, model_version FROM deployments") == [("deploy", 1)]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    assert not any(cell.get("outputs") for cell in notebook.cells)
