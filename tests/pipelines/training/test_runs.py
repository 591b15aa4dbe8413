"""What runs of the pipeline leave in MLflow and in the project's folder, on real stores."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from mlops_for_mle.config import mlflow_tracking_uri
from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import frame_digest
from mlops_for_mle.errors import explain
from mlops_for_mle.releases.manifest import ModelDescription, sha256_of
from mlops_for_mle.releases.metrics import measure
from mlops_for_mle.releases.predictor import Predictor
from tests.integration.servers import eventually, query
from tests.pipelines.training.examples import encoded, split

pytestmark = pytest.mark.integration

SMALL_FOREST = {
    "training": {
        "estimator": {
            "class_path": "sklearn.ensemble.RandomForestClassifier",
            "parameters": {"n_estimators": 7},
        }
    }
}


@dataclass(frozen=True)
class Logged:
    """What a run has logged of its candidate."""

    description: ModelDescription
    model: bytes
    validation: pd.DataFrame
    snapshot: pd.DataFrame

    def measured(self) -> dict[str, float]:
        """The served form, on the rows that came with it."""
        contract = self.description.contract
        features, truth = encoded(self.validation, contract)
        answers = Predictor(self.model, contract).predict(features.to_numpy())
        found = measure(answers, truth, contract.target)
        return {f"validation_{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class Project:
    """A project on the session's server with the rows of iris."""

    folder: Path
    experiment: str
    client: MlflowClient

    def run(self, **options: Any) -> Run:
        """What `kedro run --pipeline training` does, within this process; gives MLflow's run."""
        bootstrap_project(self.folder)
        parameters = options.pop("parameters", {})
        with KedroSession.create(project_path=self.folder, runtime_params=parameters) as session:
            session.run(pipeline_names=["training"], **options)
        return self.newest()

    def newest(self, count: int = 1) -> Any:
        """The run that began last, or the last ones."""
        found = self.client.get_experiment_by_name(self.experiment)
        runs = self.client.search_runs(
            [found.experiment_id], order_by=["attributes.start_time DESC"], max_results=count
        )
        return runs[0] if count == 1 else list(runs)

    def logged(self, run: Run) -> Logged:
        """The files of a run's candidate."""
        model = Path(download_artifacts(run.data.tags["mlops.candidate_model"])) / "extra_files"
        snapshot = download_artifacts(run_id=run.info.run_id, artifact_path="snapshot")
        return Logged(
            ModelDescription.model_validate_json((model / "description.json").read_text("utf-8")),
            (model / "model.onnx").read_bytes(),
            pd.read_parquet(model / "validation.parquet"),
            pd.read_parquet(Path(snapshot) / "snapshot.parquet"),
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kedro run --pipeline training` as a process of its own."""
        command = [sys.executable, "-m", "kedro", "run", "--pipeline", "training", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@pytest.fixture(scope="module")
def project(project_folder: Path, module_database_url: str) -> Iterator[Project]:
    # The session's modules share MLflow's store, so each one has an experiment of its own.
    experiment = project_folder.name
    (project_folder / "conf/local/globals.yml").write_text(f"experiment: {experiment}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
        patch.setenv("DATABASE_URL", module_database_url)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(project_folder)
        bootstrap_project(project_folder)
        with KedroSession.create(project_path=project_folder) as session:
            session.run(pipeline_names=["data_ingestion"])
        yield Project(project_folder, experiment, MlflowClient(mlflow_tracking_uri()))


@pytest.fixture(scope="module")
def good(project: Project) -> Run:
    """The run of the shipped parameters."""
    return project.run()


def test_a_run_says_what_it_was_trained_on_and_how(project: Project, good: Run) -> None:
    assert good.info.status == "FINISHED"
    assert good.data.params["estimator"] == "SVC"
    assert json.loads(good.data.params["training"])["validation_fraction"] == 0.25
    assert good.data.metrics["validation_accuracy"] >= 0.93
    assert good.data.metrics["baseline_accuracy"] < 0.4
    assert good.data.tags["mlops.contract"] == "iris"
    (used,) = good.inputs.dataset_inputs
    assert json.loads(used.dataset.profile)["num_rows"] == 150
    logged = project.logged(good)
    assert frame_digest(logged.snapshot) == logged.description.snapshot.sha256
    assert logged.description.snapshot.sha256.startswith(used.dataset.digest)
    assert logged.description.snapshot.watermark == 150
    folder = Path(download_artifacts(run_id=good.info.run_id))
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "class_report.png",
        "confusion_matrix.png",
        "feature_importance.png",
    }
    assert json.loads((folder / "environment.json").read_text("utf-8"))["packages"]["scikit-learn"]
    assert not (folder / "search.csv").exists()


def test_the_model_carries_its_signature_its_example_and_its_served_form(
    project: Project, good: Run, contract: Contract
) -> None:
    from mlflow.models import Model

    folder = download_artifacts(good.data.tags["mlops.candidate_model"])
    model = Model.load(folder)

    assert model.signature.inputs.input_names() == list(contract.feature_names)
    assert model.saved_input_example_info is not None
    logged = project.logged(good)
    assert logged.description.model_sha256 == sha256_of(logged.model)
    assert logged.measured().items() <= logged.description.metrics.items()
    features, _ = encoded(logged.validation, contract)
    trained = mlflow.sklearn.load_model(folder).predict(features)
    served = Predictor(logged.model, contract).predict(features.to_numpy())
    np.testing.assert_array_equal(trained, served.values)


def test_the_same_rows_and_parameters_give_the_same_model(project: Project, good: Run) -> None:
    query(
        os.environ["DATABASE_URL"],
        "INSERT INTO iris_data VALUES (DEFAULT, now(), 5.0, 3.1, 1.5, 0.3, 0)",
    )

    again = project.logged(project.run(parameters={"watermark": 150}))

    first = project.logged(good)
    assert again.description == first.description
    assert frame_digest(again.validation) == frame_digest(first.validation)


def test_what_a_search_tried_is_logged_as_a_table(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    search = {"space": {"C": [0.1, 1.0]}, "folds": 3, "scoring": "accuracy"}

    run = project.run(parameters={"training": {"search": search}})

    tried = pd.read_csv(download_artifacts(run_id=run.info.run_id, artifact_path="search.csv"))
    assert sorted(tried["C"]) == [0.1, 1.0]
    assert float(run.data.params["estimator.C"]) == tried["C"][0]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"row_limit": 10}, ("iris_data", "10 distinct rows", "class versicolor has 0")),
        ({"training": {"estimator": {"parameters": {"c": 1}}}}, ("'c'", "'C'", "SVC")),
        (
            {"training": {"estimator": {"class_path": "sklearn.dummy.DummyClassifier"}}},
            ("DummyClassifier cannot be served", "logistic"),
        ),
    ],
    ids=["rows", "parameter", "estimator"],
)
def test_a_run_that_fails_says_why_is_marked_as_failed_and_leaves_no_candidate(
    project: Project, good: Run, parameters: dict[str, Any], told: tuple[str, ...]
) -> None:
    kept = project.folder / "data/06_models/trained.pickle"
    before = kept.read_bytes()

    with pytest.raises(Exception, match="") as caught:
        project.run(parameters=parameters)

    said = explain(caught.value)
    assert "\n" not in said
    assert all(part in said for part in told), said
    newest = project.newest()
    assert newest.info.run_id != good.info.run_id
    assert newest.info.status == "FAILED"
    assert "mlops.candidate_model" not in newest.data.tags
    assert kept.read_bytes() == before
    assert not [path for path in (project.folder / "data").glob("0*/*") if path.is_dir()]


@pytest.fixture(scope="module")
def forest(project: Project, good: Run) -> Run:
    """A run of another estimator than the configured one, the last that began at the start."""
    del good
    return project.run(parameters=SMALL_FOREST)


@pytest.mark.parametrize(
    ("node", "parameters"),
    [
        ("check_snapshot", SMALL_FOREST),
        # Whatever is configured by now, the model is that of the run before, and says so.
        ("evaluate_model", {}),
        ("assemble_candidate", {}),
    ],
)
def test_a_later_run_can_begin_in_the_middle_and_logs_a_whole_candidate(
    project: Project, forest: Run, node: str, parameters: dict[str, Any]
) -> None:
    later = project.run(from_nodes=[node], parameters=parameters)

    assert later.info.run_id != forest.info.run_id
    first, second = project.logged(forest), project.logged(later)
    assert second.description == first.description
    assert second.description.training["estimator"]["parameters"] == {"n_estimators": 7}
    assert second.measured().items() <= second.description.metrics.items()
    assert frame_digest(second.snapshot) == first.description.snapshot.sha256


def test_two_that_train_at_once_are_each_right(project: Project) -> None:
    seeds = (1, 2)
    processes = [project.start("--params", f"training.seed={seed}") for seed in seeds]
    said = [process.communicate(timeout=300)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert not any("Traceback" in one for one in said)
    both = [project.logged(run) for run in project.newest(2)]
    assert {one.description.training["seed"] for one in both} == set(seeds)
    assert frame_digest(both[0].validation) != frame_digest(both[1].validation)
    for one in both:
        assert one.measured().items() <= one.description.metrics.items()
        assert frame_digest(one.snapshot) == one.description.snapshot.sha256
        examples = split(one.snapshot, one.description.contract, **one.description.training)
        held_back = one.snapshot["id"][examples.is_validation]
        assert one.validation["id"].tolist() == held_back.tolist()


def _is_held(run: Run, before: str) -> bool:
    return run.info.run_id != before and run.data.tags.get("mlops.is_held") == "yes"


def test_the_run_of_a_killed_process_is_ended_by_the_next_and_no_other_is(
    project: Project, good: Run
) -> None:
    before = project.newest().info.run_id
    process = project.start()
    assert eventually(lambda: _is_held(project.newest(), before), 60)
    killed = project.newest()
    process.kill()
    process.wait()
    of_a_person = project.client.create_run(killed.info.experiment_id)

    assert project.run().info.status == "FINISHED"

    assert project.client.get_run(killed.info.run_id).info.status == "KILLED"
    assert project.client.get_run(of_a_person.info.run_id).info.status == "RUNNING"


def test_kedro_viz_can_show_what_people_look_at(project: Project, good: Run) -> None:
    del good
    with KedroSession.create(project_path=project.folder) as session:
        catalog = session.load_context().catalog
        rows = catalog["validation_rows"].preview(nrows=3)
        assert catalog["confusion_matrix"].preview()
        assert "validation_accuracy" in catalog["metrics"].preview()

    assert len(rows["data"]) == 3
