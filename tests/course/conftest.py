"""What the checks and the pages of the course need."""

import shutil
from collections.abc import Iterator

import pytest

from course.conftest import started_mlflow
from mlops_for_mle.database import embedded
from tests.conftest import PROJECT
from tests.end_to_end.commands import Project
from tests.projects import copy_project
from tests.servers import reachable_folder


@pytest.fixture
def project() -> Iterator[Project]:
    """A project in which nothing has been run."""
    folder = reachable_folder("project-")
    copy_project(PROJECT, folder)
    project = Project(folder)
    yield project
    if project.home.exists():
        embedded.destroy(project.home)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def mlflow_for_checks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One MLflow server for all checks."""
    with started_mlflow(tmp_path_factory) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_MLFLOW", url)
        yield
