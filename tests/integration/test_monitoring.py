"""The monitoring pipeline on a trained and deployed release, with simulated traffic."""

import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlops_for_mle import monitoring_log
from mlops_for_mle.contract import Contract
from mlops_for_mle.database import engine_for
from mlops_for_mle.datasets.monitoring_release import DeployedReleaseDataset
from mlops_for_mle.datasets.monitoring_runs import MonitoringReportDataset, MonitoringRunDataset
from mlops_for_mle.datasets.training_run import CandidateDataset
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.release import Release, ReleaseStore
from tests.integration.expectations import refused
from tests.integration.projects import run_session
from tests.integration.registry_steps import RegistrySteps
from tests.integration.servers import query, scalar
from tests.integration.traffic import Traffic, deployed_release

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def url(module_database_url: str) -> str:
    return module_database_url


@pytest.fixture(scope="module")
def store(steps: RegistrySteps) -> ReleaseStore:
    return ReleaseStore(str(steps.folder / "data/releases"))


@pytest.fixture(scope="module")
def traffic(steps: RegistrySteps, store: ReleaseStore, url: str) -> Traffic:
    """Clients of the release that the pipelines have deployed."""
    with refused(PrerequisiteError) as refusal:
        run_session(steps.folder, "monitoring")
    assert "Nothing of iris is deployed yet" in refusal.message
    train_and_deploy(steps)
    return Traffic(url, deployed_release(url, store, "iris"), seed=1)


def train_and_deploy(steps: RegistrySteps) -> None:
    for pipeline in ("training", "registry", "deployment"):
        run_session(steps.folder, pipeline)


@pytest.fixture(autouse=True)
def empty_log(traffic: Traffic, url: str) -> Iterator[None]:
    yield
    query(url, "TRUNCATE predictions, feedback")


def monitor(steps: RegistrySteps, url: str, **window: object) -> MonitoringRun:
    parameters = {"monitoring": {"window": window}} if window else {}
    run_session(steps.folder, "monitoring", **parameters)
    with engine_for(url).connect() as connection:
        found = monitoring_log.newest(connection, "iris")
    assert found is not None
    return found


def alarms(run: MonitoringRun) -> set[tuple[str, str, str]]:
    return {(one.area, one.subject, one.metric) for one in run.metrics if one.is_alarm}


def test_traffic_like_the_training_rows_is_healthy_and_recorded_with_its_numbers(
    steps: RegistrySteps, traffic: Traffic, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic.serve(500)

    run = monitor(steps, url)

    said = capsys.readouterr().out
    assert "status   healthy" in said
    assert "500 predictions, 500 with a true label" in said
    assert run.status == "healthy", run.reasons
    assert run.reasons == ("500 predictions look like the 150 rows of the training snapshot.",)
    assert (run.prediction_count, run.labelled_count) == (500, 500)
    assert run.release == traffic.release.manifest.release
    assert run.window_to is not None
    assert run.window_from is not None
    assert run.window_to - run.window_from == timedelta(seconds=499)
    assert not alarms(run)
    numbers = {(one.area, one.subject, one.metric): one for one in run.metrics}
    accuracy = numbers["performance", "prediction", "accuracy"]
    assert accuracy.value is not None
    assert accuracy.lower is not None
    assert accuracy.upper is not None
    assert 0.9 < accuracy.lower < accuracy.value < accuracy.upper < 1
    assert accuracy.threshold == pytest.approx(
        traffic.release.manifest.model.metrics["validation_accuracy"] - 0.1
    )
    assert numbers["data_quality", "table", "row_count"].value == 150
    assert numbers["data_quality", "table", "rows_since_training"].value == 0
    for feature in traffic.release.manifest.contract.feature_names:
        assert ("drift", feature, "population_stability_index") in numbers
        assert numbers["data_quality", feature, "missing_fraction"].value == 0


def test_the_report_stands_in_the_project_and_in_an_mlflow_run_of_its_own(
    steps: RegistrySteps, traffic: Traffic, url: str, contract: Contract
) -> None:
    traffic.serve(500, shift={"petal_length": 1.0})
    candidate = CandidateDataset(steps.raw_contract, steps.experiment).load()

    run = monitor(steps, url)

    path = steps.folder / "data/08_reporting/monitoring.html"
    html = path.read_text("utf-8")
    assert f"monitoring {run.id}" in html
    assert 'data-status="alarm"' in html
    assert not re.search(r"(src|href)=|url\(|@import|<script", html)
    experiment = steps.client.get_experiment_by_name(f"{steps.experiment}-monitoring")
    (logged, *_) = steps.client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == "monitoring"
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["mlops.monitoring_run"] == str(run.id)
    assert logged.data.metrics["drift/petal_length/population_stability_index"] > 1
    assert logged.info.artifact_uri.startswith((steps.folder / "data/mlflow/artifacts").as_uri())
    assert "MLFLOW_TRACKING_URI" not in os.environ, "that is what a person has set"
    artifact = steps.client.download_artifacts(logged.info.run_id, "monitoring.html")
    assert Path(artifact).read_text("utf-8") == html
    assert CandidateDataset(steps.raw_contract, steps.experiment).load() == candidate

    shown = MonitoringReportDataset(str(path), "unused").preview()
    assert shown.lstrip().startswith("<style>")
    assert "<body" not in shown
    credentials = {"con": url}
    preview = MonitoringRunDataset(contract.model_dump(mode="json"), credentials).preview(3)
    assert preview["data"][0][:3] == [str(run.id), str(run.created_at), "alarm"]
    json.dumps(preview)


def test_one_drifted_feature_is_an_alarm_that_names_it(
    steps: RegistrySteps, traffic: Traffic, url: str
) -> None:
    traffic.serve(500, shift={"petal_length": 1.0}, labelled=0)

    run = monitor(steps, url)

    assert run.status == "alarm"
    drifted = {subject for area, subject, _ in alarms(run) if area == "drift"}
    assert "petal_length" in drifted
    assert not drifted & {"sepal_length", "sepal_width", "petal_width"}
    assert any("Feature petal_length has drifted" in reason for reason in run.reasons)
    assert "Performance is not judged: 0 of the 50 labelled predictions" in run.reasons[-1]


def test_too_few_predictions_are_said_to_be_too_few(
    steps: RegistrySteps, traffic: Traffic, url: str
) -> None:
    assert monitor(steps, url).status == "insufficient"
    traffic.serve(37, shift={"petal_length": 3.0}, labelled=0)

    run = monitor(steps, url)

    assert run.status == "insufficient"
    assert "37 of the 100 predictions that drift needs" in run.reasons[0]
    assert run.prediction_count == 37


def test_a_new_release_is_not_blamed_for_what_the_old_one_did(
    steps: RegistrySteps, traffic: Traffic, url: str
) -> None:
    new = traffic.release
    facts = {"release": "iris-v0-0123abcd"}
    traffic.switch(Release.checked(new.manifest.model_copy(update=facts), new.model))
    traffic.serve(300, shift={"petal_length": 2.0}, relabel={1: 2, 2: 1})
    traffic.switch(new)
    traffic.serve(200)

    run = monitor(steps, url)

    assert run.status == "healthy", run.reasons
    assert (run.prediction_count, run.labelled_count) == (200, 200)


def test_a_window_of_the_past_is_looked_at_as_it_was(
    steps: RegistrySteps, traffic: Traffic, url: str
) -> None:
    traffic.serve(500, labelled=0)
    until = traffic.now - timedelta(seconds=1)
    traffic.serve(500, shift={"petal_length": 2.0}, labelled=0)

    assert monitor(steps, url).status == "alarm"
    newest = monitor(steps, url, until=until.isoformat())
    with engine_for(url).connect() as connection:
        past, present, *_ = monitoring_log.history(connection, "iris")

    assert newest.id == present.id, "looking back changes nothing about the present"
    assert past.status == "healthy"
    assert past.window_to is not None
    assert past.window_to <= until
    assert monitor(steps, url, rows=None, hours=1000).prediction_count == 1000


def test_a_limit_that_does_not_fit_the_task_is_refused_before_anything_is_recorded(
    steps: RegistrySteps, traffic: Traffic, url: str
) -> None:
    before = scalar(url, "SELECT count(*) FROM monitoring_runs")
    for parameters, said in (
        ({"performance": {"metric": "rmse"}}, "measured by accuracy (found 'rmse')"),
        ({"window": {"until": "2026-05-01 00:00:00"}}, "monitoring.window.until"),
        ({"window": {"rows": 50}}, "must not be below minimum_rows 100"),
        ({"drift": {"test": "ks"}}, "allowed: bins, warning, alarm"),
        ({"window": {"rows": None}}, "retraining.alarms (found 2) can never be reached"),
    ):
        with refused(UserError) as refusal:
            run_session(steps.folder, "monitoring", monitoring=parameters)
        assert said in refusal.message
    assert scalar(url, "SELECT count(*) FROM monitoring_runs") == before


def test_a_snapshot_that_is_gone_or_altered_is_refused_in_one_sentence(
    steps: RegistrySteps, traffic: Traffic, url: str, store: ReleaseStore
) -> None:
    import pandas as pd

    entry = DeployedReleaseDataset(steps.raw_contract, {"con": url}, store.url)
    assert len(entry.load().snapshot) == 150
    run_id = scalar(url, "SELECT run_id FROM deployments ORDER BY id DESC LIMIT 1")
    folder = Path(MlflowClient().get_run(run_id).info.artifact_uri.removeprefix("file://"))
    path = folder / "snapshot/snapshot.parquet"
    original = path.read_bytes()
    try:
        pd.read_parquet(path).assign(petal_length=1.0).to_parquet(path, index=False)
        with refused(UserError) as refusal:
            entry.load()
        assert "was altered" in refusal.message
        path.unlink()
        with refused(UserError) as refusal:
            entry.load()
        assert "has no training snapshot" in refusal.message
    finally:
        path.write_bytes(original)
