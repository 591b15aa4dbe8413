"""From the champion to a verified release in the store."""

from pathlib import Path

import numpy as np
import pytest

from mlops_for_mle.datasets.registry import ChampionBundleDataset
from mlops_for_mle.datasets.releases import ReleaseDataset
from mlops_for_mle.errors import PrerequisiteError, ReleaseError
from mlops_for_mle.pipelines.deployment.nodes import build_release, plan_deployment
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.records import Candidate, ChampionBundle, Deployment, NothingToDeploy
from mlops_for_mle.release import Manifest, Release, ReleaseStore
from tests.integration.expectations import refused
from tests.integration.registry_steps import RegistrySteps, model_folder

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def champion(steps: RegistrySteps, good: Candidate) -> None:
    assert steps.decide_on(good).promote


def bundle_of(steps: RegistrySteps) -> ChampionBundle | NothingToDeploy:
    return ChampionBundleDataset(steps.raw_contract).load()


def release_of(steps: RegistrySteps) -> Release:
    release = build_release(bundle_of(steps))
    assert isinstance(release, Release)
    return release


def test_the_champion_becomes_a_release_that_answers_as_the_trained_model(
    steps: RegistrySteps, good: Candidate, tmp_path: Path
) -> None:
    entry = ReleaseDataset(str(tmp_path))
    entry.save(release_of(steps))
    manifest = entry.load()

    assert isinstance(manifest, Manifest)
    assert manifest.model.run_id == good.run_id
    assert manifest.contract == steps.contract
    assert manifest.snapshot.row_count == 150
    version = steps.register(good)
    names = list(steps.contract.feature_names)
    rows = version.validation[names]
    fetched = ReleaseStore(str(tmp_path)).fetch("iris", manifest.release)
    answers = Predictor(fetched).predict(rows.to_numpy(dtype=np.float64))
    assert answers.values.tolist() == version.model.predict(rows).tolist()
    assert Predictor(fetched).predict(np.array([[6.7, 3.3, 5.7, 2.1]])).values.tolist() == [2]


def test_the_same_champion_gives_the_same_release(steps: RegistrySteps, tmp_path: Path) -> None:
    store = ReleaseStore(str(tmp_path))
    first, second = release_of(steps), release_of(steps)
    assert first == second
    assert store.publish(first)
    assert not store.publish(second)


def test_the_deployment_names_the_release_and_why(steps: RegistrySteps, tmp_path: Path) -> None:
    entry = ReleaseDataset(str(tmp_path))
    entry.save(release_of(steps))
    plan = plan_deployment(entry.load())
    assert isinstance(plan, Deployment)
    assert (plan.event, plan.reason) == ("deploy", "champion")
    assert plan.release.startswith(f"iris-v{plan.model_version}-")


def test_a_graph_that_was_altered_in_the_registry_is_refused(
    steps: RegistrySteps, good: Candidate
) -> None:
    path = model_folder(steps, good) / "extra_files/model.onnx"
    original = path.read_bytes()
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    try:
        bundle = bundle_of(steps)
        with refused(ReleaseError) as refusal:
            build_release(bundle)
    finally:
        path.write_bytes(original)
    assert "its ONNX graph has the digest" in refusal.message
    assert "it was altered" in refusal.message


def test_a_release_that_was_altered_in_the_store_is_refused(
    steps: RegistrySteps, tmp_path: Path
) -> None:
    entry = ReleaseDataset(str(tmp_path))
    release = release_of(steps)
    entry.save(release)
    path = tmp_path / "iris" / release.manifest.release / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with refused(ReleaseError) as refusal:
        entry.save(release)
    assert "was altered" in refusal.message


def test_a_release_that_is_too_slow_is_not_published(steps: RegistrySteps, tmp_path: Path) -> None:
    with refused(ReleaseError) as refusal:
        ReleaseDataset(str(tmp_path), maximum_latency_ms=1e-6).save(release_of(steps))
    assert "ms for one row; allowed are" in refusal.message
    assert list(tmp_path.iterdir()) == []


def test_a_release_that_answers_its_example_otherwise_is_not_published(
    steps: RegistrySteps, tmp_path: Path
) -> None:
    release = release_of(steps)
    wrong = release.manifest.example.model_copy(
        update={"predictions": tuple(2 - one for one in release.manifest.example.predictions)}
    )
    manifest = release.manifest.model_copy(update={"example": wrong})
    with refused(ReleaseError) as refusal:
        ReleaseDataset(str(tmp_path)).save(release.model_copy(update={"manifest": manifest}))
    assert "answers its own example differently" in refusal.message
    assert list(tmp_path.iterdir()) == []


def test_without_a_champion_nothing_is_deployed(steps: RegistrySteps, tmp_path: Path) -> None:
    steps.dethrone()
    bundle = bundle_of(steps)
    assert bundle == NothingToDeploy("every candidate of iris was rejected so far")
    entry = ReleaseDataset(str(tmp_path))
    entry.save(build_release(bundle))
    assert plan_deployment(entry.load()) == bundle
    assert list(tmp_path.iterdir()) == []


def test_without_a_version_the_pipeline_to_run_first_is_named(steps: RegistrySteps) -> None:
    raw = steps.raw_contract | {"name": "never_registered"}
    with refused(PrerequisiteError) as refusal:
        ChampionBundleDataset(raw).load()
    assert "run `kedro run --pipeline registry` first" in refusal.message
