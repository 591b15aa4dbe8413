"""From a logged candidate to a decision, and from the champion to a release that servers follow."""

import json
from concurrent.futures import ThreadPoolExecutor

import mlflow
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.pipelines.deployment.datasets import DeploymentDataset
from mlops_for_mle.pipelines.registry.datasets import ChampionDataset, LoggedCandidateDataset
from mlops_for_mle.pipelines.registry.nodes import Decision
from mlops_for_mle.releases.deployments import roll_back
from mlops_for_mle.releases.predictor import load_predictor
from mlops_for_mle.releases.store import ReleaseStore
from tests.candidates import RegistryProject
from tests.expectations import refused
from tests.servers import query

TRAIL = "SELECT event, release, model_version, run_id, reason, actor FROM deployments ORDER BY id"


@pytest.fixture
def project(registry_project, good, poor, tmp_path, monkeypatch) -> RegistryProject:
    """Each test begins with two logged candidates, the poor one newer, and with nothing else."""
    del good, poor
    registry_project.forget()
    monkeypatch.setenv("MLOPS_RELEASE_STORE", str(tmp_path))
    monkeypatch.setenv("MLOPS_ACTOR", "ada")
    return registry_project


def candidates(project: RegistryProject, name: str = "iris") -> LoggedCandidateDataset:
    return LoggedCandidateDataset(name, project.experiment)


def registry(project: RegistryProject) -> ChampionDataset:
    return ChampionDataset(project.contract, {"con": project.url})


def promote(project: RegistryProject, run_id: str) -> None:
    """Make a candidate champion, whatever gates would say."""
    uri = project.client.get_run(run_id).data.tags["mlops.candidate_model"]
    decision = Decision(run_id=run_id, model_uri=uri, promote=True, reasons=("first",))
    registry(project).save(decision)


def decide_on(project: RegistryProject, run_id: str, **gates: float) -> None:
    """Run the pipeline as the last part of the run that has trained the candidate."""
    with mlflow.start_run(run_id):
        project.run("registry", gates=gates)


def test_the_candidate_of_the_active_run_comes_before_a_newer_one(project, good, poor):
    assert candidates(project).load().run_id == poor
    with mlflow.start_run(good):
        assert candidates(project).load().run_id == good
    # A run of `kedro run --from-nodes compare_models` has logged none.
    with mlflow.start_run():
        assert candidates(project).load().run_id == poor
    first = "No candidate was trained for never_trained yet: run `kedro run --pipeline training`"
    with refused(UserError, first):
        candidates(project, "never_trained").load()


def test_a_candidate_is_registered_once_by_several_at_once(project, good):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(promote, [project] * 4, [good] * 4))

    (version,) = project.client.search_model_versions("name = 'iris'")
    assert project.champion() == good
    logged = project.client.get_logged_model(version.source.removeprefix("models:/"))
    shown = [{"name": "iris", "version": version.version}]
    assert json.loads(logged.tags["mlflow.modelVersions"]) == shown


def test_a_good_candidate_becomes_champion_and_a_poor_one_does_not_for_reasons_that_are_recorded(
    project, good, poor, caplog
):
    with caplog.at_level("INFO", "mlops_for_mle"):
        decide_on(project, good)
        decide_on(project, poor)

    assert project.champion() == good
    tags = project.versions()[poor].tags
    assert tags["mlops.decision"] == "rejected"
    reasons = tags["mlops.reasons"].split("; ")
    assert reasons[0].endswith("misses the threshold 0.8000")
    assert reasons[1].startswith("champion version 1 has 0.9")
    assert "worse by more than the tolerance 0.0200" in reasons[1]
    assert reasons[2].startswith("better than a constant answer,")
    assert f"model=iris version=1 run={good} promoted: validation" in caplog.text
    assert f"model=iris version=2 run={poor} rejected: validation accuracy" in caplog.text

    decide_on(project, poor, threshold=0.5, tolerance=0.5)

    assert project.champion() == poor
    assert len(project.versions()) == 2


def test_the_champion_becomes_a_release_that_answers_as_it_was_trained_once(
    project, good, tmp_path, caplog
):
    promote(project, good)
    with caplog.at_level("INFO", "mlops_for_mle"):
        project.run("deployment")
        assert "deployed (champion)" in caplog.text
        project.run("deployment")
    assert "is deployed already" in caplog.text

    name = f"iris-v1-{good[:8]}"
    assert query(project.url, TRAIL) == [("deploy", name, 1, good, "champion", "ada")]
    stored = ReleaseStore(str(tmp_path)).fetch("iris", name)
    assert stored.manifest.contract == project.contract
    assert stored.manifest.metrics["validation_accuracy"] > 0.9
    rows = pd.read_parquet(project.files(good) / "validation.parquet")
    answers = load_predictor(stored).predict(encode_rows(rows, project.contract)).values
    assert np.mean(answers == rows["target"]) == stored.manifest.metrics["validation_accuracy"]


def test_the_champion_follows_a_rollback_by_the_api_once(project, good, poor, tmp_path):
    for run in (good, poor):
        promote(project, run)
        project.run("deployment")
    assert project.champion() == poor
    chosen = registry(project).load()
    with engine_for(project.url).connect() as connection:
        roll_back(
            connection, ReleaseStore(str(tmp_path)), "iris", reason="bad", actor="API key kim"
        )

    with pytest.raises(DatasetError, match="come in between"):
        DeploymentDataset(project.contract, {"con": project.url}).save([chosen])
    project.run("deployment")
    assert project.champion() == good
    assert [event for event, *_ in query(project.url, TRAIL)] == ["deploy", "deploy", "rollback"]

    promote(project, poor)
    project.run("deployment")
    assert project.champion() == poor
    assert query(project.url, TRAIL)[-1][:3] == ("deploy", f"iris-v2-{poor[:8]}", 2)


def test_without_a_champion_nothing_is_deployed_and_that_is_said(project, poor, tmp_path, caplog):
    decide_on(project, poor)

    project.run("deployment")

    said = "nothing deployed: the registry has no champion that is to be put in service"
    assert said in caplog.text
    assert query(project.url, TRAIL) == []
    assert list(tmp_path.iterdir()) == []


def test_a_champion_that_is_not_what_was_trained_is_neither_published_nor_deployed(
    project, good, tmp_path
):
    promote(project, good)
    description = json.loads((project.files(good) / "description.json").read_bytes())
    description["example"]["predictions"][0] += 1
    for file, altered, said in (
        ("model.onnx", b"?", "was altered"),
        ("description.json", json.dumps(description).encode(), "answers its own example"),
    ):
        path = project.files(good) / file
        original = path.read_bytes()
        path.write_bytes(altered)
        with refused(ReleaseError, said):
            project.run("deployment")
        path.write_bytes(original)
    assert query(project.url, TRAIL) == []
    assert list(tmp_path.iterdir()) == []
