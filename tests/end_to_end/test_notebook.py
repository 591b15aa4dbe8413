"""The notebooks run from the first cell to the last; an exercise left open is told of.

A cell that the learner fills in holds `...`, its metadata hold the whole filled cell as `solution`,
and the cell after it asserts.
"""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests import PROJECT
from tests.end_to_end.commands import DECIDING, Project
from tests.end_to_end.shim import shim

pytestmark = pytest.mark.end_to_end

NOTEBOOKS = PROJECT / "notebooks"
TOUR = NOTEBOOKS / "00_tour.ipynb"
EVERY = sorted(NOTEBOOKS.glob("*.ipynb"))
LESSONS = [path for path in EVERY if path != TOUR]


def run(notebook: NotebookNode, folder: Path, environment: dict[str, str]) -> NotebookNode:
    """Run it in a folder; fails at the first cell that does, other than those that may."""
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, startup_timeout=600, resources=place)
    kernel = client.create_kernel_manager()
    # By default a kernel that needs more than five seconds to stop its servers is killed.
    kernel.shutdown_wait_time = 60
    with shim() as programs:
        # A kernel need not import everything again.
        kernel.kernel_spec.argv[:-3] = [str(programs / "python-here")]
        return client.execute(env=environment)


def as_a_learner_goes(notebook: NotebookNode) -> NotebookNode:
    """The notebook with each exercise run as it is, checked in vain, filled in, checked again."""
    cells = []
    for place, cell in enumerate(notebook.cells):
        cells.append(cell)
        if "solution" in cell.metadata:
            check, filled = notebook.cells[place + 1].copy(), cell.copy()
            check.metadata = {"tags": ["raises-exception", "in-vain"]}
            filled.source = "".join(cell.metadata["solution"])
            assert "..." in cell.source
            assert "..." not in filled.source
            assert "assert " in check.source
            cells += [check, filled]
    lesson = notebook.copy()
    lesson.cells = [nbformat.from_dict({**cell, "id": f"cell-{n}"}) for n, cell in enumerate(cells)]
    return lesson


def test_the_tour_runs_and_ends_with_a_prediction(project):
    folder = project.folder / "notebooks"
    folder.mkdir(exist_ok=True)

    notebook = nbformat.read(TOUR, 4)
    ingests = next(n for n, cell in enumerate(notebook.cells) if "data_ingestion" in cell.source)
    # "Running it again writes nothing": who reads this does.
    notebook.cells.insert(ingests, notebook.cells[ingests].copy())
    run(notebook, folder, project.environment)

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [one.data["text/plain"] for one in outputs if one.output_type == "execute_result"]
    assert shown[-1] == "[2]"
    assert not list(folder.iterdir()), "what it keeps belongs into data"
    assert project.query("SELECT event, model_version FROM deployments") == [("deploy", 1)]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_filled_in_and_says_what_is_still_open(path, tmp_path):
    notebook = nbformat.read(path, 4)
    for place in (folder := tmp_path / "anywhere", temporary := tmp_path / "temporary"):
        place.mkdir()
    # What the learner's terminal has for another project must not be touched.
    elsewhere = dict.fromkeys(DECIDING, "http://127.0.0.1:1/of-another-project")
    # But bytecode is kept, or every kernel compiles what it imports.
    chosen = {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": ""}
    environment = {**os.environ, **elsewhere, **chosen}

    lesson = run(as_a_learner_goes(notebook), folder, environment)

    in_vain = [cell for cell in lesson.cells if "in-vain" in cell.metadata.get("tags", [])]
    assert len(in_vain) >= 2
    for cell in in_vain:
        (told,) = (out for out in cell.outputs if out.output_type == "error")
        assert told.ename == "AssertionError", told.evalue
        assert re.search("[a-z]{3} [a-z]", told.evalue), f"not in English: {told.evalue}"
        assert re.search("[가-힣]{2}", told.evalue), f"not in Korean: {told.evalue}"
    assert not list(folder.iterdir()), "what it keeps belongs into its temporary folder"
    assert Project(temporary).leaves_nothing_running()
    assert not list(temporary.iterdir()), "it cleans up at the end of its kernel"


def test_cells_of_a_lesson_run_again_after_a_mistake_of_the_learner(tmp_path):
    lesson = nbformat.read(NOTEBOOKS / "01_rows_and_transactions.ipynb", 4)
    server, table, insert, check = (lesson.cells[place] for place in (1, 3, 7, 8))
    check.metadata = {"tags": ["raises-exception"]}
    # The transaction stays open, and what Python remembers of the error holds its connection.
    insert.source += (
        "\n    connection.cursor().executemany('INSERT INTO flowers VALUES (9, %s, %s)', rows[:1])"
    )
    insert.source += "\n    connection.cursor().commit()"
    again = nbformat.from_dict({**table, "id": "again"})
    lesson.cells = [server, table, insert, check, again]

    run(lesson, tmp_path, {**os.environ})

    assert check.outputs[-1].ename == "AttributeError"
    assert again.outputs[0].data["text/plain"] == "{'writer': 1, 'reader': 0}"


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_in_both_languages(path):
    cells = nbformat.read(path, 4).cells

    assert path == TOUR or 10 <= len(cells) <= 18
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert not [text for text in texts if not re.search("[가-힣]", text)]
