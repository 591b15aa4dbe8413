"""Runs a notebook from its first cell to its last, in a kernel of its own.

A cell that the learner fills in holds `...`, its metadata hold the whole filled cell as `solution`,
and the cell after it asserts.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def read(path: Path) -> NotebookNode:
    """The notebook as it is committed."""
    return nbformat.read(path, as_version=4)


def run(notebook: NotebookNode, folder: Path, environment: dict[str, str]) -> NotebookNode:
    """Run it in a folder; fails at the first cell that does, other than those that may."""
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, resources=place)
    # By default a kernel that needs more than five seconds to stop its servers is killed.
    client.create_kernel_manager().shutdown_wait_time = 60
    return client.execute(env=environment)


def exercises(notebook: NotebookNode) -> list[int]:
    """Where the cells stand that are to be filled in."""
    return [place for place, cell in enumerate(notebook.cells) if "solution" in cell.metadata]


def as_a_learner_goes(notebook: NotebookNode) -> NotebookNode:
    """The notebook with each exercise run as it is, checked in vain, filled in, checked again."""
    cells, open_ones = [], exercises(notebook)
    for place, cell in enumerate(notebook.cells):
        if place in open_ones:
            check = notebook.cells[place + 1].copy()
            check.metadata = {"tags": ["raises-exception", "in-vain"]}
            filled = cell.copy()
            filled.source = "".join(cell.metadata["solution"])
            cells += [cell, check, filled]
        else:
            cells.append(cell)
    lesson = notebook.copy()
    lesson.cells = [nbformat.from_dict({**cell, "id": f"cell-{n}"}) for n, cell in enumerate(cells)]
    return lesson


def errors_in_vain(lesson: NotebookNode) -> list[tuple[str, str]]:
    """Of each check that came before its exercise was filled in: which error, and its message."""
    checks = [cell for cell in lesson.cells if "in-vain" in cell.metadata.get("tags", [])]
    return [
        next(
            ((out.ename, out.evalue) for out in cell.outputs if out.output_type == "error"),
            ("none", ""),
        )
        for cell in checks
    ]
