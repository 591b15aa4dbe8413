"""A throw-away project for each module, whose embedded server is its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops_for_mle.database import embedded
from tests.end_to_end.commands import Project
from tests.serving.conftest import ServerProcess, server_processes


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Iterator[Project]:
    """A project in which nothing has been run before the module's first test."""
    project = Project(project_folder)
    yield project
    if project.home.exists():
        embedded.destroy(project.home)


@contextmanager
def served(project: Project, *options: str) -> Iterator[ServerProcess]:
    """The project's API as `kedro serve` starts it, when it is ready; it must end in order."""
    with server_processes(project.folder) as start:
        server = start(*options, command="kedro serve", **project.variables)
        server.wait_until_ready()
        yield server
        server.end()
