"""What people see of the mistakes that come first, in an empty project."""

import pytest

from tests.end_to_end.commands import Project

pytestmark = pytest.mark.end_to_end


def test_before_there_are_tables_it_is_said_what_makes_them(project: Project) -> None:
    assert "run `kedro run` or `kedro db upgrade` first" in project.refuse("model", "list")


def test_a_wrong_parameter_is_named_with_what_is_allowed(project: Project) -> None:
    wrong = "contract.target.task=ranking"
    said = project.refuse("run", "--pipeline", "data_ingestion", "--params", wrong)
    assert said.startswith("ParameterValidationError: ")
    assert "target.task\n  Input should be 'classification' or 'regression'" in said
    assert "https://" not in said


def test_a_database_that_does_not_answer_is_named_without_showing_its_password(
    project: Project,
) -> None:
    url = "postgresql://owner:secret-word@127.0.0.1:1/rows"
    said = Project(project.folder, {"DATABASE_URL": url}).refuse("run")
    assert 'connection to server at "127.0.0.1", port 1 failed: Connection refused' in said
    assert "secret-word" not in said


def test_nothing_is_left_running(project: Project) -> None:
    assert project.leaves_nothing_running(), project.processes()
