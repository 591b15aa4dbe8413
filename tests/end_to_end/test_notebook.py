"""The notebooks run from the first cell to the last; an exercise left open is told of."""

import os
import re
from pathlib import Path

import pytest

from tests.end_to_end.commands import DECIDING, Project
from tests.end_to_end.notebooks import (
    NOTEBOOKS,
    as_a_learner_goes,
    errors_in_vain,
    exercises,
    read,
    run,
)

pytestmark = pytest.mark.end_to_end

TOUR = NOTEBOOKS / "00_tour.ipynb"
EVERY = sorted(NOTEBOOKS.glob("*.ipynb"))
LESSONS = [path for path in EVERY if path != TOUR]


def name(path: Path) -> str:
    return path.stem


def test_the_tour_runs_and_ends_with_a_prediction(project: Project) -> None:
    folder = project.folder / "notebooks"
    folder.mkdir(exist_ok=True)

    notebook = run(read(TOUR), folder, project.environment)

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


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_a_lesson_runs_filled_in_and_says_what_is_still_open(path: Path, tmp_path: Path) -> None:
    notebook = read(path)
    folder, temporary = tmp_path / "anywhere", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    # What the learner's terminal has for another project must not be touched.
    elsewhere = dict.fromkeys(DECIDING, "http://127.0.0.1:1/of-another-project")
    environment = {**os.environ, **elsewhere, "TMPDIR": str(temporary)}

    lesson = run(as_a_learner_goes(notebook), folder, environment)

    told = errors_in_vain(lesson)
    assert len(told) >= 2
    for kind, message in told:
        assert kind == "AssertionError", message
        assert re.search("[a-z]{3} [a-z]", message), f"not in English: {message}"
        assert re.search("[가-힣]{2}", message), f"not in Korean: {message}"
    assert not list(folder.iterdir()), "what it keeps belongs into its temporary folder"
    assert Project(temporary).leaves_nothing_running()
    assert not list(temporary.iterdir()), "it cleans up at the end of its kernel"


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_a_lesson_is_short_and_its_exercises_have_a_hole_and_a_check(path: Path) -> None:
    cells = read(path).cells

    assert 10 <= len(cells) <= 18
    for place in exercises(read(path)):
        assert "..." in cells[place].source
        assert "..." not in "".join(cells[place].metadata["solution"])
        assert "assert " in cells[place + 1].source


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_a_notebook_is_committed_without_outputs_and_in_both_languages(path: Path) -> None:
    cells = read(path).cells

    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert not [text for text in texts if not re.search("[가-힣]", text)]
