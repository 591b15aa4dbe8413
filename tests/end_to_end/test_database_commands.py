"""`kedro db`: the embedded server for people."""

import pytest

from tests.end_to_end.commands import Project
from tests.servers import query

pytestmark = pytest.mark.end_to_end


def test_the_server_is_started_looked_into_and_stopped(project: Project) -> None:
    assert "start it with `kedro db start`" in project.refuse("db", "url")
    assert not project.is_running()
    started = project.succeed("db", "start").output
    assert project.is_running()
    assert f"127.0.0.1:{_port(project)}" in started

    url = project.succeed("db", "url").output.strip()
    assert query(url, "SELECT current_database()") == [("mlops",)]

    assert "iris_data was made or changed" in project.succeed("db", "upgrade").output
    assert query(url, "SELECT count(*) FROM iris_data") == [(0,)]

    counted = project.succeed("db", "psql", "--", "-At", "-c", "SELECT 6 * 7").output
    assert counted.strip() == "42"

    assert "was stopped" in project.succeed("db", "stop").output
    assert project.leaves_nothing_running(), project.processes()
    assert "was not running" in project.succeed("db", "stop").output


def test_destroying_deletes_the_data_but_not_while_a_process_uses_it(project: Project) -> None:
    data = (project.home / "pgdata").resolve()
    with project.held() as url:
        assert "A process uses the embedded server" in project.refuse("db", "destroy", "--yes")
        assert query(url, "SELECT 1") == [(1,)]
    project.succeed("db", "destroy", "--yes")
    assert not data.exists()


def _port(project: Project) -> str:
    return project.url_without_lease().split("127.0.0.1:")[1].split("/")[0]
