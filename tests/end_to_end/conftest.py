"""A throw-away project for each module, whose embedded server is its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_for_mle.database import embedded
from tests.end_to_end.commands import Project


@pytest.fixture(scope="module")
def project(project_folder: Path) -> Iterator[Project]:
    """A project in which nothing has been run before the module's first test."""
    project = Project(project_folder)
    yield project
    if project.home.exists():
        embedded.destroy(project.home)
