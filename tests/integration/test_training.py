"""What a training run leaves in MLflow, and that it can be repeated."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from mlflow.artifacts import download_artifacts

from mlops_for_mle.datasets.model_registry import newest_candidate
from mlops_for_mle.errors import ConfigurationError, PrerequisiteError, UserError
from mlops_for_mle.frames import digest
from mlops_for_mle.records import Candidate
from tests.integration.conftest import train
from tests.integration.expectations import refused
from tests.integration.projects import run_session
from tests.integration.registry_steps import RegistrySteps
from tests.integration.servers import query

pytestmark = pytest.mark.integration


def test_a_run_says_what_it_was_trained_on_and_how(
    steps: RegistrySteps, good: Candidate, tmp_path: Path
) -> None:
    run = steps.client.get_run(good.run_id)

    assert run.info.status == "FINISHED"
    assert run.data.params["estimator"] == "SVC"
    assert json.loads(run.data.params["training"])["validation_fraction"] == 0.25
    assert run.data.metrics["validation_accuracy"] >= 0.93
    assert run.data.tags["mlops.snapshot_watermark"] == "150"
    (used,) = run.inputs.dataset_inputs
    assert json.loads(used.dataset.profile)["num_rows"] == 150

    folder = Path(download_artifacts(run_id=good.run_id, dst_path=str(tmp_path)))
    snapshot = pd.read_parquet(folder / "snapshot/snapshot.parquet")
    assert len(snapshot) == 150
    assert digest(snapshot) == run.data.tags["mlops.snapshot_sha256"]
    assert digest(snapshot).startswith(used.dataset.digest)
    pictures = sorted(path.name for path in folder.rglob("*.png"))
    assert pictures == ["class_report.png", "confusion_matrix.png"]


def test_the_model_carries_its_signature_its_example_and_its_onnx_form(
    steps: RegistrySteps, good: Candidate, tmp_path: Path
) -> None:
    from mlflow.models import Model

    folder = Path(download_artifacts(good.model_uri, dst_path=str(tmp_path)))
    model = Model.load(str(folder))
    assert model.signature is not None
    assert model.signature.inputs.input_names() == list(steps.contract.feature_names)
    assert model.saved_input_example_info is not None
    assert {path.name for path in (folder / "extra_files").iterdir()} == {
        "model.onnx",
        "passport.json",
        "validation.parquet",
    }


def test_the_same_rows_and_parameters_give_the_same_model(
    steps: RegistrySteps, good: Candidate
) -> None:
    query(
        os.environ["DATABASE_URL"],
        "INSERT INTO iris_data VALUES (DEFAULT, now(), 5.0, 3.1, 1.5, 0.3, 0)",
    )
    again = train(steps, watermark=150)

    assert again != good
    first, second = (steps.register(one) for one in (good, again))
    assert first.passport.onnx_sha256 == second.passport.onnx_sha256
    assert first.passport.metrics == second.passport.metrics
    assert first.passport.snapshot == second.passport.snapshot
    assert digest(first.validation) == digest(second.validation)


def test_no_row_stands_on_both_sides_of_the_split(steps: RegistrySteps, good: Candidate) -> None:
    features = list(steps.contract.feature_names)
    snapshot = pd.read_parquet(
        download_artifacts(run_id=good.run_id, artifact_path="snapshot/snapshot.parquet")
    )
    validation = steps.register(good).validation
    is_validation = snapshot["id"].isin(validation["id"])
    training = snapshot[~is_validation]
    assert len(training) + len(validation) == 150
    assert len(validation) > 30
    both = training[features].merge(validation[features], how="inner")
    assert both.empty


def test_the_candidate_that_was_trained_last_is_found(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    assert good != poor
    assert newest_candidate(steps.client, "iris", steps.experiment) == poor


@pytest.mark.parametrize(
    ("name", "experiment"), [("wine", None), ("iris", "an experiment that is not there")]
)
def test_without_a_candidate_the_pipeline_to_run_first_is_named(
    steps: RegistrySteps, name: str, experiment: str | None
) -> None:
    with refused(PrerequisiteError) as refusal:
        newest_candidate(steps.client, name, experiment or steps.experiment)
    assert refusal.message == (
        f"No candidate was trained for {name} yet: run `kedro run --pipeline training` first."
    )


def test_a_run_that_fails_is_marked_as_failed_and_gives_no_candidate(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    del good
    with refused(UserError) as refusal:
        run_session(steps.folder, "training", row_limit=10)
    assert "none of class" in refusal.message
    newest = steps.client.search_runs(
        [steps.client.get_experiment_by_name(steps.experiment).experiment_id], max_results=1
    )[0]
    assert newest.info.status == "FAILED"
    assert newest_candidate(steps.client, "iris", steps.experiment) == poor


def test_an_estimator_without_an_onnx_form_is_refused(steps: RegistrySteps) -> None:
    with refused(UserError) as refusal:
        run_session(
            steps.folder,
            "training",
            training={"estimator": {"class_path": "sklearn.dummy.DummyClassifier"}},
        )
    assert "DummyClassifier has no ONNX form" in refusal.message


def test_a_parameter_that_the_estimator_does_not_have_is_refused_with_those_it_has(
    steps: RegistrySteps,
) -> None:
    with refused(ConfigurationError) as refusal:
        run_session(steps.folder, "training", training={"estimator": {"parameters": {"c": 1}}})
    assert refusal.message.startswith("training.estimator.parameters: sklearn.svm.SVC has no")
    assert "C, " in refusal.message


def test_a_contract_that_is_longer_than_a_parameter_is_logged_whole_as_a_file(
    steps: RegistrySteps, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    words = "so wide " * 850
    contract = {"features": {"sepal_length": {"description": words}}}
    with refused(ConfigurationError):
        bad = {"estimator": {"parameters": {"c": 1}}}
        run_session(steps.folder, "training", contract=contract, training=bad)

    experiment = steps.client.get_experiment_by_name(steps.experiment)
    (run,) = steps.client.search_runs([experiment.experiment_id], max_results=1)
    path = download_artifacts(
        run_id=run.info.run_id, artifact_path="parameters/contract.json", dst_path=str(tmp_path)
    )
    logged = json.loads(Path(path).read_text("utf-8"))
    assert logged["features"]["sepal_length"]["description"] == words
    assert "contract" not in run.data.params
    assert "training" in run.data.params
    assert "truncated" not in caplog.text
