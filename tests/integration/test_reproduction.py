"""`kedro model reproduce`, on versions that real training has logged."""

import shutil
import subprocess
from pathlib import Path

import pytest

import mlops_for_mle
from mlops_for_mle.commands.reproduce import code_of, reproduce
from mlops_for_mle.commands.versions import Registry, open_registry
from mlops_for_mle.errors import UserError
from mlops_for_mle.records import Candidate
from tests.integration.expectations import refused
from tests.integration.registry_steps import RegistrySteps

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(steps: RegistrySteps, good: Candidate, poor: Candidate) -> Registry:
    for candidate in (good, poor):
        steps.register(candidate)
    return open_registry(steps.folder, None)


def tags(commit: str, is_committed: str = "yes") -> dict[str, str]:
    """What a run says of the code that trained it."""
    return {"mlflow.source.git.commit": commit, "mlops.code_is_committed": is_committed}


class Checkout:
    """A git repository with the project's code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = Path(mlops_for_mle.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, folder / "src/mlops_for_mle", ignore=ignored)
        self._git("init", "--quiet")

    def commit(self) -> str:
        self._git("add", "--all")
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        self._git(*who, "commit", "--quiet", "--allow-empty", "--message", "a revision")
        return self._git("rev-parse", "HEAD")

    def worktrees(self) -> int:
        return len(self._git("worktree", "list").splitlines())

    def change(self, file: str, old: str, new: str) -> None:
        path = self.folder / "src/mlops_for_mle" / file
        content = path.read_text("utf-8")
        assert old in content
        path.write_text(content.replace(old, new), "utf-8")

    def _git(self, *arguments: str) -> str:
        finished = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], check=True, capture_output=True, text=True
        )
        return finished.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setenv("MLOPS_PROJECT_PATH", str(tmp_path / "checkout"))
    return Checkout(tmp_path / "checkout")


@pytest.mark.parametrize("wanted", ["1", "2"])
def test_every_version_is_reproduced_identically(registry: Registry, wanted: str) -> None:
    found = reproduce(registry, wanted)

    assert found.is_identical, found.report
    assert "predictions  identical (150 rows)" in found.report
    assert "ONNX graph   identical" in found.report
    assert "packages     as then" in found.report


def test_the_recorded_revision_is_what_trains(
    registry: Registry, steps: RegistrySteps, good: Candidate, checkout: Checkout
) -> None:
    checkout.change("pipelines/training/split.py", "digest_size=8", "digest_size=9")
    other = checkout.commit()
    checkout.change("pipelines/training/split.py", "digest_size=9", "digest_size=8")
    checkout.commit()
    for name, value in tags(other).items():
        steps.client.set_tag(good.run_id, name, value)

    found = reproduce(registry, "1")

    assert f"revision {other[:12]}, checked out for this" in found.report
    assert not found.is_identical
    assert "not reproduced" in found.report
    assert checkout.worktrees() == 1


def test_where_the_revision_cannot_be_had_the_present_code_trains_and_is_named(
    checkout: Checkout,
) -> None:
    then = checkout.commit()

    def chosen(commit: str, is_committed: str = "yes") -> str:
        with code_of(tags(commit, is_committed)) as (source, words):
            assert source is None
            return words

    assert chosen(then) == f"revision {then[:12]}, which is the present one"
    assert f"with changes to {then[:12]} that were not committed" in chosen(then, "no")
    assert "is not in this checkout" in chosen("0" * 40)
    with code_of({}) as (source, words):
        assert source is None
        assert "was not recorded" in words


def test_an_altered_snapshot_is_not_trained_on(
    registry: Registry, steps: RegistrySteps, poor: Candidate
) -> None:
    import pandas as pd

    run = steps.client.get_run(poor.run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "snapshot/snapshot.parquet"
    rows = pd.read_parquet(path)
    rows.iloc[:-1].to_parquet(path, index=False)
    try:
        with refused(UserError) as refusal:
            reproduce(registry, "2")
        assert "was altered" in refusal.message
    finally:
        rows.to_parquet(path, index=False)


def test_a_version_that_does_not_exist_is_named(registry: Registry) -> None:
    with refused(UserError) as refusal:
        reproduce(registry, "9")
    assert "versions: 1, 2" in refusal.message
