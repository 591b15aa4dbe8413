"""From a candidate to a decision on a real MLflow registry."""

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow.artifacts import download_artifacts

from mlops_for_mle.datasets.model_registry import find_version, versions
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.pipelines.registry.nodes import confirm_metrics
from mlops_for_mle.records import Candidate
from tests.integration.expectations import refused
from tests.integration.registry_steps import RegistrySteps, model_folder

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_champion(steps: RegistrySteps, good: Candidate, poor: Candidate) -> None:
    """Each test begins with both candidates registered and no champion."""
    for candidate in (good, poor):
        steps.register(candidate)
    steps.dethrone()


def test_a_candidate_is_registered_once(steps: RegistrySteps, good: Candidate) -> None:
    first = steps.register(good)
    second = steps.register(good)
    assert first.version == second.version
    assert first.run_id == good.run_id
    assert len(versions(steps.client, "iris")) == 2


def test_a_version_that_is_loaded_back_has_the_metrics_that_training_recorded(
    steps: RegistrySteps, good: Candidate
) -> None:
    version, found = confirm_metrics(steps.register(good), steps.contract)
    run = steps.client.get_run(good.run_id)
    assert found["accuracy"] >= 0.93
    for name, value in found.items():
        assert run.data.metrics[f"validation_{name}"] == pytest.approx(value, abs=1e-12)
        assert version.passport.metrics[f"validation_{name}"] == pytest.approx(value, abs=1e-12)


def test_the_first_candidate_that_reaches_the_threshold_becomes_champion(
    steps: RegistrySteps, good: Candidate
) -> None:
    decision = steps.decide_on(good)
    assert decision.promote
    assert decision.reasons[1] == "there is no champion to compare with"
    assert steps.champion() == decision.version


def test_a_candidate_below_the_threshold_is_rejected(steps: RegistrySteps, poor: Candidate) -> None:
    decision = steps.decide_on(poor)
    assert not decision.promote
    assert "misses the threshold 0.8000" in decision.reasons[0]
    assert steps.champion() is None


def test_a_candidate_that_is_worse_than_the_champion_is_rejected(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    champion = steps.decide_on(good)
    decision = steps.decide_on(poor, threshold=0.5)
    assert not decision.promote
    assert decision.champion_version == champion.version
    assert decision.champion_metrics is not None
    assert decision.champion_metrics["accuracy"] > decision.candidate_metrics["accuracy"]
    assert "worse by more than the tolerance" in decision.reasons[1]
    assert steps.champion() == champion.version


def test_a_candidate_that_is_worse_within_the_tolerance_becomes_champion(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    steps.decide_on(good)
    decision = steps.decide_on(poor, threshold=0.5, tolerance=0.5)
    assert decision.promote
    assert "no worse within the tolerance 0.5000" in decision.reasons[1]
    assert steps.champion() == decision.version


def test_a_better_candidate_takes_over(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    steps.decide_on(poor, threshold=0.5)
    decision = steps.decide_on(good)
    assert decision.promote
    assert steps.champion() == decision.version


def test_deciding_again_on_the_champion_keeps_it(steps: RegistrySteps, good: Candidate) -> None:
    first = steps.decide_on(good)
    second = steps.decide_on(good)
    assert second.promote
    assert second.version == first.version
    assert second.reasons[1] == "it is the champion already"


def test_an_error_as_metric_gets_better_downwards(steps: RegistrySteps, poor: Candidate) -> None:
    assert not steps.decide_on(poor, metric="brier", threshold=0.0).promote
    assert steps.decide_on(poor, metric="brier", threshold=2.0).promote


def test_a_champion_without_the_metric_is_told(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    champion = steps.decide_on(good)
    with refused(UserError) as refusal:
        steps.decide_on(poor, metric="brier", threshold=2.0)
    assert refusal.message == (
        f"Champion version {champion.version} of iris has no brier, only accuracy, "
        "balanced_accuracy, macro_f1: choose one of them for gates.metric."
    )


def test_the_decision_is_recorded_with_its_reasons(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    for candidate, gates, outcome in ((good, {}, "promoted"), (poor, {}, "rejected")):
        decision = steps.decide_on(candidate, **gates)
        version = steps.client.get_model_version("iris", str(decision.version))
        assert version.tags["mlops.decision"] == outcome
        assert version.tags["mlops.reasons"] == "; ".join(decision.reasons)
        value = float(version.tags["mlops.accuracy"])
        assert value == pytest.approx(decision.candidate_metrics["accuracy"], abs=1e-6)
        path = download_artifacts(run_id=candidate.run_id, artifact_path="decision.json")
        assert json.loads(Path(path).read_text("utf-8")) == decision.model_dump(mode="json")


def test_a_metric_that_is_not_measured_is_refused_with_those_that_are(
    steps: RegistrySteps, good: Candidate
) -> None:
    with refused(UserError) as refusal:
        steps.decide_on(good, metric="log_loss")
    assert refusal.message == (
        "gates.metric: expected one of accuracy, balanced_accuracy, macro_f1, which were measured "
        "on the validation rows of this model (found 'log_loss')"
    )


def test_validation_rows_that_were_altered_stop_the_promotion(
    steps: RegistrySteps, good: Candidate
) -> None:
    path = model_folder(steps, good) / "extra_files/validation.parquet"
    original = path.read_bytes()
    rows = pd.read_parquet(path)
    rows["target"] = (rows["target"] + 1) % 3
    rows.to_parquet(path, index=False)
    try:
        with refused(UserError) as refusal:
            steps.decide_on(good)
    finally:
        path.write_bytes(original)
    assert "loaded back, its validation accuracy is 0.0" in refusal.message
    assert steps.champion() is None


def test_a_version_is_found_by_number_alias_and_run(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    number = steps.decide_on(good).version
    for wanted in (str(number), "champion", good.run_id):
        assert find_version(steps.client, "iris", wanted).run_id == good.run_id
    assert find_version(steps.client, "iris", poor.run_id).run_id == poor.run_id


def test_a_version_that_is_not_there_is_refused_with_those_that_are(steps: RegistrySteps) -> None:
    with refused(UserError) as refusal:
        find_version(steps.client, "iris", "99")
    assert "no version, alias or run '99'; versions: 1, 2;" in refusal.message
    with refused(PrerequisiteError) as refusal:
        find_version(steps.client, "absent", "1")
    assert "run `kedro run --pipeline registry` first" in refusal.message


def test_a_model_that_other_code_has_logged_is_refused(
    steps: RegistrySteps, good: Candidate, poor: Candidate
) -> None:
    folder = model_folder(steps, poor) / "extra_files"
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    try:
        with refused(UserError) as refusal:
            steps.register(poor)
    finally:
        hidden.rename(folder)
    assert "it was not logged by `kedro run --pipeline training`" in refusal.message
