"""The pipeline monitoring on a trained and deployed release, with simulated traffic."""

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, text

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.pipelines.monitoring.datasets import MonitoringReportDataset, read_snapshot
from mlops_for_mle.releases.store import ReleaseStore
from tests.candidates import RegistryProject
from tests.integration.expectations import refused
from tests.integration.servers import query, scalar
from tests.pipelines.monitoring.traffic import Traffic, deployed_release, renamed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def traffic(registry_project: RegistryProject) -> Traffic:
    """Clients of the release that the pipelines have deployed."""
    with refused(PrerequisiteError) as refusal:
        registry_project.run("monitoring")
    assert "Nothing of iris is deployed yet" in refusal.message
    registry_project.run("__default__")
    store = ReleaseStore(str(registry_project.folder / "data/releases"))
    release = deployed_release(registry_project.url, store, "iris")
    return Traffic(registry_project.url, release, seed=1)


@pytest.fixture(autouse=True)
def empty_log(traffic: Traffic, registry_project: RegistryProject) -> Iterator[None]:
    yield
    query(registry_project.url, "TRUNCATE predictions, feedback")


def monitor(project: RegistryProject, **window: object) -> Row[Any]:
    """Run the pipeline; gives the row that it has recorded."""
    project.run("monitoring", **({"monitoring": {"window": window}} if window else {}))
    with engine_for(project.url).connect() as connection:
        newest = "SELECT * FROM monitoring_runs ORDER BY id DESC LIMIT 1"
        return connection.execute(text(newest)).one()


def metrics(project: RegistryProject, run: Row[Any]) -> dict[tuple[str, str, str], Row[Any]]:
    with engine_for(project.url).connect() as connection:
        rows = connection.execute(
            text("SELECT * FROM monitoring_metrics WHERE run_id = :id"), {"id": run.id}
        ).all()
    return {(row.area, row.subject, row.metric): row for row in rows}


def alarms(project: RegistryProject, run: Row[Any]) -> set[tuple[str, str]]:
    return {name[:2] for name, row in metrics(project, run).items() if row.is_alarm}


def test_traffic_like_the_training_rows_is_healthy_and_recorded_with_its_numbers(
    registry_project: RegistryProject, traffic: Traffic, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic.serve(500)

    run = monitor(registry_project)

    said = capsys.readouterr().out
    assert "status   healthy" in said
    assert "500 predictions, 500 with a true label" in said
    assert run.status == "healthy", run.reasons
    assert run.reasons == ["500 predictions look like the 150 rows of the training snapshot."]
    assert (run.prediction_count, run.labelled_count) == (500, 500)
    assert run.release == traffic.release.manifest.release
    assert run.window_to - run.window_from == timedelta(seconds=499)
    assert not alarms(registry_project, run)
    numbers = metrics(registry_project, run)
    accuracy = numbers["performance", "prediction", "accuracy"]
    assert 0.9 < accuracy.lower < accuracy.value < accuracy.upper < 1
    validated = traffic.release.manifest.metrics["validation_accuracy"]
    assert accuracy.threshold == pytest.approx(validated - 0.1)
    for feature in traffic.release.manifest.contract.feature_names:
        assert ("drift", feature, "population_stability_index") in numbers
        assert numbers["data_quality", feature, "missing_fraction"].value == 0
    decided = "SELECT decision FROM retraining_decisions WHERE monitoring_run_id = :run"
    assert scalar(registry_project.url, decided, run=run.id) == "none"


def test_the_report_stands_in_the_project_and_in_an_mlflow_run_of_its_own(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    traffic.serve(500, shift={"petal_length": 1.0})

    run = monitor(registry_project)

    path = registry_project.folder / "data/08_reporting/monitoring.html"
    html = path.read_text("utf-8")
    assert f"monitoring {run.id}" in html
    assert 'data-status="alarm"' in html
    assert not re.search(r"(src|href)=.(?!#)|url\((?!#)|@import|<script", html)
    found = query(registry_project.url, "SELECT html FROM monitoring_reports")
    assert found == [(html,)]
    client = registry_project.client
    experiment = client.get_experiment_by_name(f"{registry_project.experiment}-monitoring")
    (logged, *_) = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_name, logged.info.status) == ("monitoring", "FINISHED")
    assert logged.data.tags["mlops.monitoring_run"] == str(run.id)
    assert logged.data.tags["mlops.monitoring_status"] == "alarm"
    assert logged.data.metrics["drift/petal_length/population_stability_index"] > 1
    artifacts = registry_project.folder / "data/mlflow/artifacts"
    assert logged.info.artifact_uri.startswith(artifacts.as_uri())
    assert "MLFLOW_TRACKING_URI" not in os.environ, "that is what a person has set"
    artifact = client.download_artifacts(logged.info.run_id, "monitoring.html")
    assert Path(artifact).read_text("utf-8") == html

    shown = MonitoringReportDataset(str(path), "unused", {"con": "unused"}).preview()
    assert shown.lstrip().startswith("<style>")
    assert "<body" not in shown


def test_one_drifted_feature_is_an_alarm_that_names_it(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    traffic.serve(500, shift={"petal_length": 1.0}, labelled=0)

    run = monitor(registry_project)

    assert run.status == "alarm"
    drifted = {subject for area, subject in alarms(registry_project, run) if area == "drift"}
    assert "petal_length" in drifted
    assert not drifted & {"sepal_length", "sepal_width", "petal_width"}
    assert any("Feature petal_length has drifted" in reason for reason in run.reasons)
    assert "Performance is not judged: 0 of the 50 labelled predictions" in run.reasons[-1]


def test_too_few_predictions_are_said_to_be_too_few(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    assert monitor(registry_project).status == "insufficient"
    traffic.serve(37, shift={"petal_length": 3.0}, labelled=0)

    run = monitor(registry_project)

    assert run.status == "insufficient"
    assert "37 of the 100 predictions that drift needs" in run.reasons[0]
    assert run.prediction_count == 37


def test_a_new_release_is_not_blamed_for_what_the_old_one_did(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    new = traffic.release
    traffic.switch(renamed(new, release="iris-v0-0123abcd"))
    traffic.serve(300, shift={"petal_length": 2.0}, relabel={1: 2, 2: 1})
    traffic.switch(new)
    traffic.serve(200)

    run = monitor(registry_project)

    assert run.status == "healthy", run.reasons
    assert (run.prediction_count, run.labelled_count) == (200, 200)


def test_a_window_of_the_past_is_looked_at_as_it_was(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    traffic.serve(500, labelled=0)
    until = traffic.now - timedelta(seconds=1)
    traffic.serve(500, shift={"petal_length": 2.0}, labelled=0)

    assert monitor(registry_project).status == "alarm"
    past = monitor(registry_project, until=until.isoformat())

    assert past.status == "healthy"
    assert past.window_to <= until
    assert monitor(registry_project, rows=None, hours=1000).prediction_count == 1000


def test_parameters_that_mean_nothing_are_refused_before_anything_is_recorded(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    before = scalar(registry_project.url, "SELECT count(*) FROM monitoring_runs")
    for parameters, said in (
        ({"performance": {"metric": "rmse"}}, "measured by accuracy"),
        ({"window": {"until": "2026-05-01 00:00:00"}}, "until"),
        ({"window": {"rows": 50}}, "must not be below minimum_rows 100"),
        ({"drift": {"test": "ks"}}, "test"),
        ({"window": {"rows": None}}, "retraining.alarms (found 2) can never be reached"),
    ):
        with pytest.raises(Exception, match=re.escape(said)):
            registry_project.run("monitoring", monitoring=parameters)
    assert scalar(registry_project.url, "SELECT count(*) FROM monitoring_runs") == before


def test_a_decision_can_be_made_anew_of_what_was_recorded(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    traffic.serve(200)
    run = monitor(registry_project)

    registry_project.run("monitoring", from_nodes=["decide_on_retraining"])

    count = "SELECT count(*) FROM retraining_decisions WHERE monitoring_run_id = :run"
    assert scalar(registry_project.url, count, run=run.id) == 2


def test_a_snapshot_that_is_gone_is_told_in_one_sentence(
    registry_project: RegistryProject, traffic: Traffic
) -> None:
    run_id = traffic.release.manifest.run_id
    assert len(read_snapshot(run_id, "any")) == 150
    folder = registry_project.client.get_run(run_id).info.artifact_uri.removeprefix("file://")
    path = Path(folder) / "snapshot/snapshot.parquet"
    original = path.read_bytes()
    path.unlink()
    try:
        with refused(UserError) as refusal:
            registry_project.run("monitoring")
    finally:
        path.write_bytes(original)
    assert f"is not in MLflow run {run_id}" in refusal.message
