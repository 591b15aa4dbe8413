"""Projects for the pages of the course, as the end-to-end tests have them."""

from collections.abc import Iterator

import pytest

from course.conftest import started_mlflow
from tests.end_to_end.conftest import project

__all__ = ["project"]


@pytest.fixture(scope="module")
def mlflow_for_checks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One MLflow server for all checks of a part."""
    with started_mlflow(tmp_path_factory) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_MLFLOW", url)
        yield
