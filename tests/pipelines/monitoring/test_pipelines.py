"""The pipelines: what a run records, and the loop from a changed world to a new model."""

import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import pandas as pd
import pytest
from sqlalchemy.engine import make_url

from mlops_for_mle.commands.processes import send_webhook
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import NothingToDoError, UserError
from mlops_for_mle.releases.deployments import roll_back
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.store import ReleaseStore
from tests.candidates import RegistryProject
from tests.end_to_end.commands import Project, finish
from tests.expectations import refused
from tests.pipelines.monitoring.examples import DECISION
from tests.pipelines.monitoring.traffic import Traffic, deployed_release
from tests.relay import Relay
from tests.servers import eventually, http_server, query, scalar

RUNS = "SELECT count(*) FROM monitoring_runs"
TRIED_AGAIN = re.compile("OperationalError: .*; will be tried again")


def swapped(classes: "pd.Series[int]") -> Any:
    """Versicolor is called virginica from now on, and the other way round."""
    return classes.replace({1: 2, 2: 1})


@pytest.fixture(scope="module")
def project(registry_project) -> RegistryProject:
    """A project that has run once, so that its champion is deployed."""
    with refused(UserError, "Nothing of iris is deployed yet"):
        registry_project.run("monitoring")
    registry_project.run("__default__")
    return registry_project


@pytest.fixture(scope="module")
def first(project) -> Release:
    """The release that is served at first."""
    return deployed_release(project)


@pytest.fixture(autouse=True)
def _nothing_was_asked(project):
    tables = "predictions, feedback, monitoring_runs, monitoring_metrics, retraining_decisions"
    query(project.url, f"TRUNCATE {tables} RESTART IDENTITY")


def monitor(project: RegistryProject, **parameters: Any) -> tuple[str, str]:
    """Run the pipeline monitoring; gives the status and the decision."""
    project.run("monitoring", **parameters)
    (newest,) = query(
        project.url,
        "SELECT status, decision FROM retraining_decisions AS decisions "
        "JOIN monitoring_runs AS runs ON runs.id = monitoring_run_id "
        "ORDER BY decisions.id DESC LIMIT 1",
    )
    return newest


def mlflow_runs(project: RegistryProject) -> list[Any]:
    """The runs of training and retraining that MLflow shows."""
    experiment = project.client.get_experiment_by_name(project.experiment)
    return list(project.client.search_runs([experiment.experiment_id]))


def test_a_run_is_told_and_recorded_with_its_numbers_and_its_report(project, first, capsys):
    Traffic(project.url, first, seed=1).serve(500)
    # What is served is looked at, whatever the contract of now asks of the table.
    query(project.url, "ALTER TABLE iris_data RENAME COLUMN target TO class")

    assert monitor(project) == ("healthy", "none")
    query(project.url, "ALTER TABLE iris_data RENAME COLUMN class TO target")
    project.run("monitoring", from_nodes=["decide_on_retraining"])

    said = capsys.readouterr().out
    assert "status   healthy" in said
    assert re.search(r"window   500 predictions, (.+)\n  labels   500 predictions, \1\n", said)
    runs = "SELECT release, reasons, prediction_count, window_to - window_from FROM monitoring_runs"
    reason = "500 predictions look like the 150 rows of the training snapshot."
    lasted = timedelta(seconds=499)
    assert query(project.url, runs) == [(first.manifest.release, [reason], 500, lasted)]
    ((lower, value, upper, threshold),) = query(
        project.url, "SELECT lower, value, upper, threshold FROM monitoring_metrics "
        "WHERE (area, subject, metric) = ('performance', 'prediction', 'accuracy')"
    )  # fmt: skip
    assert 0.9 < lower < value < upper < 1
    assert threshold == pytest.approx(first.manifest.metrics["validation_accuracy"] - 0.1)
    decided = "SELECT DISTINCT monitoring_run_id, count(*) FROM retraining_decisions GROUP BY 1"
    assert query(project.url, decided) == [(1, 2)]

    html = (project.folder / "data/08_reporting/monitoring.html").read_text("utf-8")
    assert 'data-status="healthy"' in html
    assert query(project.url, "SELECT html FROM monitoring_reports") == [(html,)]
    assert "MLFLOW_TRACKING_URI" not in os.environ, "that is what a person has set"


def test_a_release_is_compared_with_its_own_rows_whatever_was_done_to_its_version_in_mlflow(
    project, first
):
    Traffic(project.url, first, seed=1).serve(500)
    project.client.rename_registered_model("iris", "former_iris")
    try:
        assert monitor(project) == ("healthy", "none")
    finally:
        project.client.rename_registered_model("former_iris", "iris")


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is told."""

    told: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/the secret", "127.0.0.1/secret"])
def test_a_webhook_that_fails_is_logged_and_stops_nothing(address, caplog):
    assert not send_webhook(address, DECISION)
    assert "decision=7 was not told to the webhook: " in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.end_to_end
def test_the_loop_from_a_changed_world_to_a_new_model(project, first):
    a_changed_world_is_noticed_learned_and_told_by_the_tables(project, first)
    a_person_who_has_rolled_back_is_undone_by_a_new_decision_only(project)
    a_run_whose_candidate_was_registered_is_kept(project)


def a_changed_world_is_noticed_learned_and_told_by_the_tables(
    project: RegistryProject, first: Release
) -> None:
    traffic = Traffic(project.url, first, seed=7)

    traffic.serve(500)
    assert monitor(project) == ("healthy", "none")
    before = len(mlflow_runs(project))
    with refused(NothingToDoError, "says none"):
        project.run("retrain")
    assert len(mlflow_runs(project)) == before, "what was not called for leaves no run"

    traffic.serve(500, truth=swapped)
    assert monitor(project) == ("alarm", "none")
    told = "SELECT reasons ->> 0 FROM retraining_decisions ORDER BY id DESC LIMIT 1"
    assert re.fullmatch(
        r"performance: alarm in 1 of the last 2 labelled windows \(runs \d+\); "
        r"2 in 3 call for retrain\.",
        scalar(project.url, told),
    )
    traffic.serve(500, truth=swapped)
    assert monitor(project) == ("alarm", "retrain")
    # One that fails ends nothing, and lets go; so does one that has trained nothing itself.
    with pytest.raises(Exception, match="not fit to train on"):
        project.run("retrain", data_checks={"minimum_rows": 10_000})
    with refused(UserError, "set MLFLOW_RUN_ID"):
        project.run("retrain", from_nodes=["compare_models"])
    assert query(project.url, "SELECT max(acted_at) FROM retraining_decisions") == [(None,)]

    watch_retrains_tells_it_and_outlives_its_database(project)
    second = deployed_release(project)
    assert second.manifest.release != first.manifest.release
    assert second.manifest.snapshot.row_count == 1_000
    assert second.manifest.snapshot.source.startswith("labelled predictions since")

    # Before the traffic that follows, which is simulated.
    query(project.url, "UPDATE deployments SET created_at = created_at - interval '2 days'")
    traffic.release = second
    traffic.serve(500, truth=swapped)
    assert monitor(project) == ("healthy", "none")

    story = query(
        project.url,
        "SELECT runs.release, runs.status, decision, value > 0.9, outcome, decisions.run_id "
        "FROM monitoring_runs AS runs JOIN retraining_decisions AS decisions "
        "ON monitoring_run_id = runs.id JOIN monitoring_metrics AS metrics "
        "ON metrics.run_id = runs.id AND metric = 'accuracy' ORDER BY runs.id",
    )
    old, new = first.manifest.release, second.manifest.release
    assert [row[:4] for row in story] == [
        (old, "healthy", "none", True),
        (old, "alarm", "none", False),
        (old, "alarm", "retrain", False),
        (old, "alarm", "retrain", False),
        (new, "healthy", "none", True),
    ]
    assert story[3][4:] == ("version 2 was promoted", second.manifest.run_id)
    deployed = query(project.url, "SELECT release, model_version FROM deployments ORDER BY id")
    assert deployed == [(old, 1), (new, 2)]


def watch_retrains_tells_it_and_outlives_its_database(project: RegistryProject) -> None:
    network = Relay(make_url(project.url).port or 0)
    through = make_url(project.url).set(port=network.port).render_as_string(hide_password=False)
    with http_server(Hook) as hook:
        variables = {"DATABASE_URL": through, "MLOPS_ALERT_WEBHOOK": hook}
        process = Project(project.folder, variables).start("watch", "--every", "1s")
        try:
            # When it has retrained, the new release has no window to decide by.
            assert eventually(lambda: len(Hook.told) == 2, 300)
            network.cut()
            assert any(TRIED_AGAIN.search(line) for line in process.stderr)
            network.mend()
            ((before,),) = query(project.url, RUNS)
            assert eventually(lambda: query(project.url, RUNS) > [(before,)])
        finally:
            process.send_signal(signal.SIGTERM)
            finished = finish(process)
            network.close()

    assert finished.code == 0, finished.text
    assert "Stopped." in finished.output
    assert [(told["contract"], told["decision"]) for told in Hook.told] == [
        ("iris", "retrain"),
        ("iris", "none"),
    ]
    assert Hook.told[0]["text"] == f"iris: retrain. {' '.join(Hook.told[0]['reasons'])}"


def a_person_who_has_rolled_back_is_undone_by_a_new_decision_only(project: RegistryProject) -> None:
    def at_random(classes: "pd.Series[int]") -> Any:
        return classes.sample(frac=1, random_state=1).to_numpy()

    def labels_at_random(hours_ago: int) -> str:
        begin = datetime.now(UTC) - timedelta(hours=hours_ago)
        traffic = Traffic(project.url, deployed_release(project), seed=hours_ago, start=begin)
        traffic.serve(500, truth=at_random)
        # One window decides here.
        return monitor(project, retraining={"windows": 1, "alarms": 1})[1]

    bad = deployed_release(project)
    assert labels_at_random(hours_ago=12) == "retrain"
    with engine_for(project.url).connect() as connection:
        store = ReleaseStore(str(project.folder / "data/releases"))
        roll_back(connection, store, "iris", reason="I know better", actor="a person")
    good = deployed_release(project)
    assert good != bad
    with refused(NothingToDoError, "another release was put in service"):
        project.run("retrain")

    assert labels_at_random(hours_ago=6) == "retrain"
    # Labels at random teach nothing, so the candidate is rejected; the champion is the bad one.
    project.run("retrain")

    concluded = "SELECT outcome FROM retraining_decisions WHERE run_id IS NOT NULL ORDER BY id DESC"
    assert scalar(project.url, f"{concluded} LIMIT 1") == "the candidate was rejected"
    assert deployed_release(project) == good


def a_run_whose_candidate_was_registered_is_kept(project: RegistryProject) -> None:
    """Begun in the middle, it is at its end that a retraining is found not to be called for."""
    with refused(NothingToDoError, "was acted on"):
        project.run("retrain", from_nodes=["assemble_candidate"])
    kept = {run.info.run_id for run in mlflow_runs(project)}
    assert set(project.versions()) <= kept
