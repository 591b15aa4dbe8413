"""`kedro model reproduce`, on a version that real training has logged."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from mlops_for_mle.cli import cli
from mlops_for_mle.pipelines.training import nodes
from tests.candidates import RegistryProject

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def version(registry_project: RegistryProject) -> Any:
    """The version of a model that was trained on the table of iris."""
    for pipeline in ("data_ingestion", "training", "registry"):
        registry_project.run(pipeline)
    (found,) = registry_project.versions().values()
    return found


def reproduce(project: RegistryProject) -> Result:
    metadata = bootstrap_project(project.folder)
    return CliRunner().invoke(cli, ["model", "reproduce", "champion"], obj=metadata)


def test_a_model_that_comes_out_otherwise_is_told(
    registry_project: RegistryProject, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = nodes.prepare_examples

    def otherwise(rows: Any, contract: Any, training: Any) -> Any:
        return prepare(rows, contract, training.model_copy(update={"seed": training.seed + 1}))

    monkeypatch.setattr(nodes, "prepare_examples", otherwise)

    found = reproduce(registry_project)

    assert found.exit_code == 1
    assert " then, " in found.output
    assert found.output.endswith("not reproduced\n")


def test_an_altered_snapshot_is_not_trained_on(
    registry_project: RegistryProject, version: Any
) -> None:
    run = registry_project.client.get_run(version.run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "snapshot/snapshot.parquet"
    original = path.read_bytes()
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    try:
        found = reproduce(registry_project)
    finally:
        path.write_bytes(original)
    assert found.exit_code == 1
    assert "Version 1 of iris: its snapshot was altered" in found.output
