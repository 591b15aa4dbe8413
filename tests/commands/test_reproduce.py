"""`kedro model reproduce`, on a version that real training has logged."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

import mlops_for_mle
from mlops_for_mle.commands.model import model_commands
from mlops_for_mle.commands.reproduce import code_of, train_again
from mlops_for_mle.errors import UserError
from tests.candidates import RegistryProject

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def version(registry_project: RegistryProject) -> Any:
    """The version of a model that was trained on the table of iris."""
    for pipeline in ("data_ingestion", "training", "registry"):
        registry_project.run(pipeline)
    (found,) = registry_project.versions().values()
    return found


class Checkout:
    """A git repository with the project's code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        package = Path(mlops_for_mle.__file__).parent
        shutil.copytree(package, folder / "src/mlops_for_mle", ignore=ignored)
        self._git("init", "--quiet")

    def commit(self) -> str:
        self._git("add", "--all")
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        self._git(*who, "commit", "--quiet", "--allow-empty", "--message", "a revision")
        return self._git("rev-parse", "HEAD")

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


def tags(commit: str, is_committed: str = "yes") -> dict[str, str]:
    """What a run says of the code that trained it."""
    return {"mlflow.source.git.commit": commit, "mlops.code_is_committed": is_committed}


def test_a_version_is_reproduced_to_the_last_bit(
    registry_project: RegistryProject, version: Any
) -> None:
    metadata = bootstrap_project(registry_project.folder)
    for wanted in ("champion", version.run_id):
        found = CliRunner().invoke(model_commands, ["reproduce", wanted], obj=metadata)
        assert found.exit_code == 0, found.output
        for said in (
            f"Version 1 of iris, run {version.run_id}\n",
            "  rows         150 of iris_data, sha256 ",
            "  packages     as then\n",
            "  metrics      identical (",
            "  predictions  identical (150 rows)\n",
            "  ONNX graph   identical\n",
            "  reproduced: identical\n",
        ):
            assert said in found.output


def test_the_recorded_revision_is_what_trains(
    registry_project: RegistryProject, version: Any, checkout: Checkout
) -> None:
    options = "TrainingOptions.model_validate(then.training"
    checkout.change("commands/reproduce.py", options, f'{options} | {{"seed": 9}}')
    other = checkout.commit()
    for name, value in tags(other).items():
        registry_project.client.set_tag(version.run_id, name, value)

    is_identical, report = train_again(registry_project.client, version)

    assert f"code         revision {other[:12]}" in report
    assert not is_identical
    assert " then, " in report
    assert report.endswith("  not reproduced")


def test_where_the_revision_cannot_be_had_the_present_code_trains_and_is_named(
    checkout: Checkout, tmp_path: Path
) -> None:
    then = checkout.commit()
    checkout.change("__init__.py", "", "# A change of today.\n")

    assert code_of(tags(then), tmp_path) == (tmp_path / "src", f"revision {then[:12]}")
    assert "today" not in (tmp_path / "src/mlops_for_mle/__init__.py").read_text("utf-8")
    for found, words in (
        (tags(then, "no"), f"with changes to {then[:12]}, not committed"),
        (tags("0" * 40), "revision 000000000000 is not in this checkout"),
        ({}, "which revision trained it was not recorded"),
    ):
        source, said = code_of(found, tmp_path)
        assert source is None
        assert said.startswith("as it is now; ")
        assert words in said


def test_an_altered_snapshot_is_not_trained_on(
    registry_project: RegistryProject, version: Any
) -> None:
    run = registry_project.client.get_run(version.run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "snapshot/snapshot.parquet"
    original = path.read_bytes()
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    try:
        with pytest.raises(UserError, match="Version 1 of iris: its snapshot was altered"):
            train_again(registry_project.client, version)
    finally:
        path.write_bytes(original)


def test_what_cannot_be_trained_again_says_why(
    registry_project: RegistryProject, version: Any, checkout: Checkout
) -> None:
    shutil.rmtree(checkout.folder / "src/mlops_for_mle/pipelines")
    for name, value in tags(checkout.commit()).items():
        registry_project.client.set_tag(version.run_id, name, value)

    with pytest.raises(UserError, match=r"cannot be trained again: ModuleNotFoundError: No module"):
        train_again(registry_project.client, version)
