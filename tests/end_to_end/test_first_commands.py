"""What people see first, in an empty project and on a database of somebody else's."""

import pytest
from sqlalchemy.engine import make_url

from tests.end_to_end.commands import Project
from tests.expectations import succeed
from tests.servers import eventually, free_port, query, status_of

pytestmark = pytest.mark.end_to_end


def test_a_mistake_that_comes_first_is_one_sentence(project):
    assert "start it with `kedro db start`" in project.refuse("db", "url")
    assert not project.is_running()
    assert "run `kedro run` or `kedro db upgrade` first" in project.refuse("model", "list")
    wrong = "contract.target.task=ranking"
    said = project.refuse("run", "--pipeline", "data_ingestion", "--params", wrong)
    assert said.startswith("ParameterValidationError: ")
    assert "target.task\n  Input should be 'classification' or 'regression'" in said
    assert "https://" not in said
    assert project.leaves_nothing_running(), project.processes()


def test_the_embedded_server_is_started_looked_into_and_stopped(project):
    started = project.succeed("db", "start").output
    assert project.is_running()
    assert f"127.0.0.1:{make_url(project.url_without_lease()).port}" in started

    url = project.succeed("db", "url").output.strip()
    assert query(url, "SELECT current_database()") == [("mlops",)]

    assert "iris_data fits the contract" in project.succeed("db", "upgrade").output
    assert query(url, "SELECT count(*) FROM iris_data") == [(0,)]

    counted = project.succeed("db", "psql", "--", "-At", "-c", "SELECT 6 * 7").output
    assert counted.strip() == "42"

    with project.held():
        assert "starts it again" in project.succeed("db", "stop").output
    project.succeed("db", "start")
    assert project.succeed("db", "stop").output == "PostgreSQL was stopped.\n"
    assert project.leaves_nothing_running(), project.processes()
    assert "was not running" in project.succeed("db", "stop").output


def test_destroying_deletes_the_data_but_not_while_a_process_uses_it(project):
    data = (project.home / "pgdata").resolve()
    with project.held() as url:
        assert "A process uses the embedded server" in project.refuse("db", "destroy", "--yes")
        assert query(url, "SELECT 1") == [(1,)]
    project.succeed("db", "destroy", "--yes")
    assert not data.exists()


def test_servers_that_are_away_or_not_ours_are_named_without_a_password(project, external_url):
    away = "postgresql://owner:secret-word@127.0.0.1:1/rows"
    said = Project(project.folder, {"DATABASE_URL": away}).refuse("run")
    assert 'connection to server at "127.0.0.1", port 1 failed: Connection refused' in said
    assert "secret-word" not in said

    connected = Project(project.folder, {"DATABASE_URL": external_url})
    assert "DATABASE_URL names an external database" in connected.refuse("db", "start")
    connected.variables |= {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    said = connected.refuse("run", "--pipeline", "training")
    assert "API request to http://127.0.0.1:1" in said
    assert "Connection refused" in said


def test_mlflows_page_shows_the_store_and_no_argument_shows_its_password(project, external_url):
    password, port = make_url(external_url).password, free_port()
    assert password
    page = f"http://127.0.0.1:{port}/health"
    connected = Project(project.folder, {"DATABASE_URL": external_url})
    begun = connected.begin("mlflow", "ui", "--port", str(port))
    try:
        assert eventually(lambda: status_of(page) == 200)
        arguments = succeed("ps", "-eww", "-o", "args=")
        assert f"--port {port}" in arguments
        assert password not in arguments
    finally:
        begun.process.terminate()
    ended = begun.finish()
    assert ended.code == 0, ended.text
    assert "Traceback" not in ended.text
    assert "Warning" not in ended.text
    assert eventually(lambda: status_of(page) is None)
