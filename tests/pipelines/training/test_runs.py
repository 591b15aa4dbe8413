"""What runs of the pipeline leave in MLflow and in the project's folder, on real stores."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroServiceSession, KedroSession
from kedro.ipython import _prepare_imports
from kedro.runner import SequentialRunner
from kedro_viz.data_access import data_access_manager
from kedro_viz.integrations.kedro.hooks import DatasetStatsHook
from kedro_viz.server import load_and_populate_data
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_examples, frame_digest
from mlops_for_mle.errors import UserError, error_message
from mlops_for_mle.pipelines.registry.datasets import LoggedCandidateDataset
from mlops_for_mle.pipelines.registry.nodes import GateOptions, LoggedCandidate, compare_models
from mlops_for_mle.pipelines.training import nodes
from mlops_for_mle.pipelines.training.datasets import CandidateDataset
from mlops_for_mle.releases.metrics import GREATER_IS_BETTER
from mlops_for_mle.releases.predictor import Predictor
from tests.candidates import RegistryProject as Project
from tests.expectations import refused
from tests.pipelines.training.examples import assemble
from tests.releases import SMALL_CONTRACT
from tests.servers import connection_to, eventually, query

HELD = "mlops.held_in"
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SMALL_FOREST = {
    "training": {
        "estimator": {"class_path": "sklearn.ensemble.RandomForestClassifier"},
        "search": {
            "space": {"n_estimators": [1, 7]},
            "folds": 3,
            "scoring": "accuracy",
            "engine": {"scheduler": "threads"},
        },
    }
}


@pytest.fixture(scope="module")
def project(registry_project) -> Project:
    """A project with the rows of iris."""
    registry_project.run("data_ingestion")
    return registry_project


def newest(project: Project, count: int = 1) -> list[Run]:
    """The runs that began last."""
    found = project.client.get_experiment_by_name(project.experiment)
    return project.client.search_runs(
        [found.experiment_id], order_by=["attributes.start_time DESC"], max_results=count
    )


def train(project: Project, **options: Any) -> Run:
    """What `kedro run --pipeline training` does, within this process."""
    project.run("training", **options)
    return newest(project)[0]


def logged(project: Project, run: Run) -> tuple[LoggedCandidate, pd.DataFrame]:
    """The candidate of a run, whose metrics are confirmed, and its snapshot."""
    with mlflow.start_run(run.info.run_id):
        found = LoggedCandidateDataset("iris", project.experiment).load()
    compare_models(found, None, GateOptions(metric="accuracy"))
    folder = download_artifacts(run_id=run.info.run_id, artifact_path="snapshot")
    rows = pd.read_parquet(Path(folder) / "snapshot.parquet")
    assert frame_digest(rows) == found.description.snapshot.sha256
    return found, rows


@pytest.fixture(scope="module")
def shipped(project) -> Run:
    """The run of the shipped parameters."""
    return train(project)


def test_a_run_says_what_it_was_trained_on_and_how(project, shipped):
    data = shipped.data
    assert shipped.info.status == "FINISHED"
    assert data.params["estimator"] == "SVC"
    assert json.loads(data.params["training"])["validation_fraction"] == 0.25
    assert data.metrics.keys() == {
        f"{part}_{metric}"
        for part in ("training", "validation", "baseline")
        for metric in GREATER_IS_BETTER["classification"]
    }
    assert data.metrics["validation_accuracy"] >= 0.93
    assert data.metrics["baseline_accuracy"] == pytest.approx(1 / 3, abs=0.01)
    assert data.tags["mlops.contract"] == "iris"
    folder = Path(download_artifacts(run_id=shipped.info.run_id))
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "class_report.png",
        "confusion_matrix.png",
        "feature_importance.png",
    }
    assert not (folder / "search.csv").exists()
    candidate, rows = logged(project, shipped)
    assert candidate.description.snapshot.watermark == len(rows) == 150

    model, contract = download_artifacts(data.tags["mlops.candidate_model"]), project.contract
    described = Model.load(model)
    assert described.signature.inputs.input_names() == list(contract.features)
    assert described.saved_input_example_info is not None
    features, _ = encode_examples(candidate.validation, contract)
    trained = mlflow.sklearn.load_model(model).predict(features)
    served = Predictor(candidate.model, contract).predict(features.to_numpy())
    np.testing.assert_array_equal(trained, served.values)


def test_a_logged_model_answers_from_the_threshold_that_is_served(project):
    width = np.linspace(0, 10, 200)
    kinds = (width + 3 * np.sin(9 * width) > 5).astype(int)
    rows = pd.DataFrame({"width": width, "count": 1, "kind": kinds})
    assembled = assemble(rows, SMALL_CONTRACT, estimator={"name": "logistic"}, threshold=0.2)
    mlflow.set_experiment(project.experiment)
    with mlflow.start_run() as run:
        CandidateDataset("sk_model").save(assembled.candidate)
    tags, features = mlflow.get_run(run.info.run_id).data.tags, assembled.examples.features

    answers = mlflow.sklearn.load_model(tags["mlops.candidate_model"]).predict(features)

    served = assembled.predictor.predict(features.to_numpy())
    np.testing.assert_array_equal(answers, served.values)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"row_limit": 10}, ("iris_data", "10 distinct rows", "'versicolor' 0")),
        (
            {"training": {"estimator": {"class_path": "sklearn.dummy.DummyClassifier"}}},
            ("DummyClassifier cannot be served", "logistic"),
        ),
        ({"gates": {"metric": "rmse"}}, ("gates.metric: rmse", "balanced_accuracy")),
    ],
    ids=["rows", "estimator", "gates"],
)
def test_a_run_that_fails_says_why_is_marked_as_failed_and_leaves_no_candidate(
    project, shipped, parameters, told
):
    kept = project.folder / "data/06_models/trained.pickle"
    before = kept.read_bytes()

    with pytest.raises(Exception, match="") as caught:
        train(project, **parameters)

    said = error_message(caught.value)
    assert "\n" not in said
    assert all(part in said for part in told), said
    (failed,) = newest(project)
    assert failed.info.run_id != shipped.info.run_id
    assert failed.info.status == "FAILED"
    assert "mlops.candidate_model" not in failed.data.tags
    assert kept.read_bytes() == before
    assert not [path for path in (project.folder / "data").glob("0*/*") if path.is_dir()]


def test_nothing_is_trained_whose_files_would_be_logged_to_other_runs(project, shipped):
    before = len(newest(project, 100))
    with (
        pytest.raises(UserError, match="--async"),
        KedroSession.create(project_path=project.folder) as session,
    ):
        session.run(pipeline_names=["training"], runner=SequentialRunner(is_async=True))
    failed, *earlier = newest(project, 100)
    assert (failed.info.status, len(earlier)) == ("FAILED", before)


def test_runs_that_the_server_of_kedro_has_at_once_keep_apart(project, shipped):
    session = KedroServiceSession.create(project_path=project.folder, serving_mode=True)

    def run(seed: int) -> None:
        session.run(pipeline_names=["training"], runtime_params={"training": {"seed": seed}})

    with ThreadPoolExecutor() as threads:
        list(threads.map(run, (1, 2)))

    runs = newest(project, 2)
    assert [found.info.status for found in runs] == ["FINISHED", "FINISHED"]
    assert {json.loads(found.data.params["training"])["seed"] for found in runs} == {1, 2}
    assert not query(project.url, "SELECT FROM pg_locks WHERE locktype = 'advisory'")


@pytest.mark.parametrize("place", ["mlflow.set_tags", "mlflow.MlflowClient.set_terminated"])
def test_a_run_that_mlflow_does_not_let_begin_or_end_is_of_no_consequence_for_the_next(
    project: Project, shipped: Run, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MlflowException("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        with pytest.raises(MlflowException, match="is away"):
            train(project, data_checks={"minimum_rows": 1000})
    (failed,) = newest(project)
    assert failed.info.run_id != shipped.info.run_id
    assert mlflow.active_run() is None
    assert not query(project.url, "SELECT FROM pg_locks WHERE locktype = 'advisory'")


@pytest.fixture(scope="module")
def forest(project, shipped) -> Run:
    """A run of another estimator than the configured one, the last that began at the start."""
    del shipped
    return train(project, **SMALL_FOREST)


def test_what_a_search_tried_is_logged_as_a_table(forest):
    tried = pd.read_csv(download_artifacts(run_id=forest.info.run_id, artifact_path="search.csv"))

    assert sorted(tried["n_estimators"]) == [1, 7]
    assert int(forest.data.params["estimator.n_estimators"]) == tried["n_estimators"][0]


@pytest.mark.parametrize(
    ("node", "parameters"),
    [
        ("prepare_examples", SMALL_FOREST),
        # Whatever is configured by now, the model is that of the run before, and says so.
        ("evaluate_model", {}),
    ],
)
def test_a_later_run_can_begin_in_the_middle_and_logs_a_whole_candidate(
    project, forest, node, parameters
):
    later = train(project, from_nodes=[node], **parameters)

    assert later.info.run_id != forest.info.run_id
    found = logged(project, later)[0].description
    assert found == logged(project, forest)[0].description
    assert found.estimator == "RandomForestClassifier"


def test_the_run_of_a_killed_process_is_ended_by_the_next_and_no_other_is(project, shipped):
    command = [sys.executable, "-m", "kedro", "run", "--pipeline", "training"]
    process = subprocess.Popen(command, cwd=project.folder, stdout=subprocess.DEVNULL)

    assert eventually(
        lambda: newest(project)[0].info.status == "RUNNING" and HELD in newest(project)[0].data.tags
    )
    process.kill()
    process.wait()
    (killed,) = newest(project)
    # One of a person, and one of another project, which may be alive.
    others = [
        project.client.create_run(killed.info.experiment_id, tags=tags)
        for tags in ({}, {HELD: "7587/16385"})
    ]

    train(project, from_nodes=["evaluate_model"])

    assert project.client.get_run(killed.info.run_id).info.status == "KILLED"
    for other in others:
        assert project.client.get_run(other.info.run_id).info.status == "RUNNING"
        project.client.set_terminated(other.info.run_id)


def test_a_run_whose_database_restarts_in_the_middle_ends_well(project, shipped, monkeypatch):
    log_metrics = mlflow.log_metrics

    def log_after_a_restart(*metrics: Any, **of: Any) -> None:
        # Its lock is lost, too.
        query(project.url, END_OTHERS)
        log_metrics(*metrics, **of)

    monkeypatch.setattr("mlflow.log_metrics", log_after_a_restart)
    assert train(project, from_nodes=["evaluate_model"]).info.status == "FINISHED"


def test_a_run_that_another_process_holds_can_be_logged_to_and_has_one_candidate(project, forest):
    lock = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
    with connection_to(project.url) as other, mlflow.start_run() as run:
        other.exec_driver_sql(lock, (f"run {run.info.run_id}",))
        train(project, from_nodes=["evaluate_model"])
    trained = mlflow.get_run(run.info.run_id).outputs

    with refused(UserError, "unset MLFLOW_RUN_ID"), mlflow.start_run(run.info.run_id):
        train(project, from_nodes=["evaluate_model"])

    assert mlflow.get_run(run.info.run_id).outputs == trained


def test_kedro_viz_can_show_what_people_look_at(project, shipped):
    with KedroSession.create(project_path=project.folder) as session:
        catalog = session.load_context().catalog
        assert len(catalog["validation_rows"].preview(nrows=3)["data"]) == 3
        assert catalog["confusion_matrix"].preview()
        assert "validation_accuracy" in catalog["metrics"].preview()
        assert DatasetStatsHook().get_file_size(catalog["metrics"])

    # It shows no layers at all where one comes both before and after another.
    load_and_populate_data(project.folder)
    for name in ("__default__", "training", "monitoring", "retrain", "scoring"):
        assert data_access_manager.get_sorted_layers_for_registered_pipeline(name), name


def test_load_node_of_kedro_finds_the_imports_of_a_step():
    # It takes every line that begins with import, also that of an argument called importance.
    found: dict[str, object] = {}
    exec(_prepare_imports(nodes.train_model), found)

    assert found["Contract"] is Contract
