"""`kedro watch` as a process."""

import signal

import pytest

from mlops_for_mle.database import engine_for, only_one
from tests.end_to_end.commands import Project, finish
from tests.integration.servers import eventually, query

pytestmark = pytest.mark.end_to_end

RUNS = "SELECT count(*) FROM monitoring_runs"


def test_without_a_deployment_it_says_what_to_run_first(project: Project) -> None:
    finished = project.kedro("watch", "--rounds", "1")

    assert finished.code == 1
    assert "Nothing of iris is deployed yet" in finished.errors
    assert "run `kedro run` first" in finished.errors
    assert "Traceback" not in finished.text


def test_what_can_never_call_for_a_retraining_is_refused_at_once(project: Project) -> None:
    parameters = project.folder / "conf/local/parameters_monitoring.yml"
    parameters.write_text("monitoring: {window: {rows: null}}\n")
    try:
        assert "monitoring.window: rows and hours are both null" in project.refuse("watch")
    finally:
        parameters.unlink()


def test_one_watches_at_a_time_and_stops_when_told(project: Project) -> None:
    project.succeed("run")
    with project.held() as url:
        with only_one(engine_for(url), "watch/iris") as held:
            assert held is not None
            skipped = project.succeed("watch", "--rounds", "1")
        assert "is watched by another process; skipped" in skipped.errors
        assert query(url, RUNS) == [(0,)]

        process = project.start("watch", "--every", "1h")
        assert eventually(lambda: query(url, RUNS) == [(1,)], seconds=60)
        process.send_signal(signal.SIGTERM)
        finished = finish(process)
        assert finished.code == 0, finished.text
        assert "Traceback" not in finished.text
        assert query(url, "SELECT decision FROM retraining_decisions") == [("none",)]

    not_needed = project.succeed("run", "--pipeline", "retrain")
    assert "Retraining is not called for: decision 1 says none." in not_needed.output
