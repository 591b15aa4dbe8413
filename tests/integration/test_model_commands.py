"""What `kedro model` does, on a registry with two versions."""

import os
import re
from pathlib import Path

import pytest

from mlops_for_mle.commands.versions import (
    Registry,
    download_version,
    open_registry,
    project_summary,
    promote_version,
    roll_back,
    version_table,
)
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.hooks import ProjectHooks
from mlops_for_mle.records import Candidate
from mlops_for_mle.settings import HOOKS
from tests.integration.expectations import refused
from tests.integration.projects import run_session
from tests.integration.registry_steps import RegistrySteps
from tests.integration.servers import query

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(steps: RegistrySteps, good: Candidate, poor: Candidate) -> Registry:
    for candidate in (good, poor):
        steps.decide_on(candidate)
    query(os.environ["DATABASE_URL"], "TRUNCATE deployments")
    return open_registry(steps.folder, None)


def test_a_rollback_before_the_first_deployment_names_what_to_run(registry: Registry) -> None:
    with refused(PrerequisiteError) as refusal:
        roll_back(registry, None, "x")
    assert "run `kedro run` first" in refusal.message


def test_a_rollback_with_nothing_to_go_back_to_is_refused(registry: Registry) -> None:
    promote_version(registry, "1", "first")
    with refused(UserError) as refusal:
        roll_back(registry, None, "x")
    assert "is the only release of iris" in refusal.message


def test_a_release_that_was_never_served_cannot_be_rolled_back_to(
    registry: Registry, steps: RegistrySteps
) -> None:
    promote_version(registry, "1", "first")
    promote_version(registry, "2", "second")
    assert steps.champion() == 2
    with refused(UserError) as refusal:
        roll_back(registry, "iris-v9-00000000", "x")
    assert "expected one of iris-v1-" in refusal.message

    assert "version 1 is champion again" in roll_back(registry, None, "worse in practice")
    assert steps.champion() == 1
    served = registry.served()
    assert served is not None
    assert (served.event, served.model_version, served.reason) == (
        "rollback",
        1,
        "worse in practice",
    )


def test_promoting_what_is_served_already_says_so(registry: Registry) -> None:
    promote_version(registry, "1", "first")
    said = promote_version(registry, "1", "again")
    assert said.endswith("is deployed already.")


def test_a_run_sums_up_its_own_decision_when_another_has_registered_a_version_meanwhile(
    registry: Registry, steps: RegistrySteps, good: Candidate, capsys: pytest.CaptureFixture[str]
) -> None:
    (hooks,) = (one for one in HOOKS if isinstance(one, ProjectHooks))
    run_session(steps.folder, "registry")
    name = registry.contract.name
    other = steps.client.create_model_version(name, good.model_uri, good.run_id)
    try:
        hooks.after_pipeline_run({"pipeline_name": None, "env": None})
        own = capsys.readouterr().out
        newest = project_summary(registry)
    finally:
        steps.client.delete_model_version(name, other.version)
    assert re.search(r"candidate +version 2, .*\n +decision +rejected: ", own)
    assert re.search(rf"candidate +version {other.version}, .*\n +decision +undecided: ", newest)


def test_the_table_shows_each_version_with_its_decision(registry: Registry) -> None:
    table = version_table(registry)
    assert "Versions of iris" in table
    first, second = (line for line in table.splitlines() if line.startswith("│"))
    assert "rejected" in first
    assert "promoted" in second
    assert "0.6667" in first


def test_a_folder_that_is_not_empty_is_left_alone(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with refused(UserError) as refusal:
        download_version(registry, "1", tmp_path)
    assert "is not empty" in refusal.message
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_version_is_downloaded_whole(registry: Registry, tmp_path: Path) -> None:
    folder = download_version(registry, "1", tmp_path / "version")
    names = {path.name for path in folder.rglob("*")}
    assert {"MLmodel", "model.onnx", "passport.json", "validation.parquet"} <= names
