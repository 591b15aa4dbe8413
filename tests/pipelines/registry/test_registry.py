"""From a logged candidate to a decision, on a real MLflow and a real PostgreSQL."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
from mlflow.artifacts import download_artifacts

from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.registry.datasets import (
    ChampionDataset,
    LoggedCandidateDataset,
    find_version,
    load_version,
)
from mlops_for_mle.pipelines.registry.nodes import Decision
from tests.candidates import RegistryProject
from tests.expectations import refused

pytestmark = pytest.mark.integration


@pytest.fixture
def project(registry_project, good, poor) -> RegistryProject:
    """Each test begins with two logged candidates, the poor one newer, and no version."""
    del good, poor
    registry_project.forget()
    return registry_project


def candidates(project: RegistryProject, name: str = "iris") -> LoggedCandidateDataset:
    return LoggedCandidateDataset(name, project.experiment)


def decide_on(project: RegistryProject, run_id: str, **gates: float) -> None:
    """Run the pipeline as the last part of the run that has trained the candidate."""
    with mlflow.start_run(run_id):
        project.run("registry", gates=gates)


def test_the_newest_candidate_is_registered_once_whatever_the_gates_say_later(project, poor):
    project.run("registry")

    (version,) = project.versions().values()
    assert (version.run_id, int(version.version)) == (poor, 1)
    assert version.tags["mlops.decision"] == "rejected"
    assert project.champion() is None

    project.run("registry", from_nodes=["compare_models"], gates={"threshold": 0.5})

    assert list(project.versions()) == [poor]
    assert project.champion() == poor


def test_the_candidate_of_the_active_run_comes_before_a_newer_one(project, good, poor):
    assert candidates(project).load().run_id == poor
    with mlflow.start_run(good):
        assert candidates(project).load().run_id == good
    # A run of `kedro run --from-nodes compare_models` has logged none.
    with mlflow.start_run():
        assert candidates(project).load().run_id == poor
    with refused(UserError) as refusal:
        candidates(project, "never_trained").load()
    first = "No candidate was trained for never_trained yet: run `kedro run --pipeline training`"
    assert first in refusal.message


def test_a_candidate_is_registered_once_by_several_at_once(project, good):
    decision = Decision(
        run_id=good,
        model_uri=project.client.get_run(good).data.tags["mlops.candidate_model"],
        champion_version=None,
        metrics={},
        promote=True,
        reasons=("first",),
    )
    registry = ChampionDataset("iris", credentials={"con": project.url})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: registry.save(decision), range(4)))

    assert len(project.client.search_model_versions("name = 'iris'")) == 1
    assert project.champion() == good


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
    recorded = Path(download_artifacts(run_id=poor, artifact_path="decision.json"))
    decision = json.loads(recorded.read_text("utf-8"))
    assert decision["reasons"] == reasons
    assert decision["metrics"].keys() == {"candidate", "baseline", "champion"}
    assert f"model=iris version=1 run={good} promoted: validation" in caplog.text
    assert f"model=iris version=2 run={poor} rejected: validation accuracy" in caplog.text
    for wanted in ("1", "champion", good):
        manifest = load_version(find_version(project.client, "iris", wanted)).manifest
        assert (manifest.run_id, manifest.version) == (good, 1)
        assert manifest.release == f"iris-v1-{good[:8]}"
        assert manifest.contract == project.contract
    with pytest.raises(mlflow.MlflowException, match="99 not found"):
        find_version(project.client, "iris", "99")

    decide_on(project, poor, threshold=0.5, tolerance=0.5)

    assert project.champion() == poor
    assert len(project.versions()) == 2
