"""From the champion to a release that servers follow."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.releases.predictor import load
from mlops_for_mle.releases.store import ReleaseStore
from tests.candidates import SVC, RegistryProject
from tests.expectations import refused
from tests.servers import query

pytestmark = pytest.mark.integration

TRAIL = "SELECT event, release, model_version, run_id, reason, actor FROM deployments ORDER BY id"


@pytest.fixture
def project(registry_project, good, poor, tmp_path, monkeypatch) -> RegistryProject:
    """Each test begins with a good champion, an empty store and an empty audit trail."""
    del poor
    registry_project.forget()
    monkeypatch.setenv("MLOPS_RELEASE_STORE", str(tmp_path))
    monkeypatch.setenv("MLOPS_ACTOR", "ada")
    register(registry_project, good)
    return registry_project


def register(project: RegistryProject, run_id: str, **gates: float) -> None:
    with mlflow.start_run(run_id):
        project.run("registry", gates=gates)


def test_the_champion_becomes_a_release_that_answers_as_it_was_trained_once(
    project, good, tmp_path, caplog
):
    with caplog.at_level("INFO", "mlops_for_mle"):
        project.run("deployment")
        assert "published" in caplog.text
        assert "deployed (champion)" in caplog.text
        project.run("deployment")
    assert "is in the store already" in caplog.text
    assert "is deployed already" in caplog.text

    name = f"iris-v1-{good[:8]}"
    assert query(project.url, TRAIL) == [("deploy", name, 1, good, "champion", "ada")]
    stored = ReleaseStore(str(tmp_path)).fetch("iris", name)
    assert stored.manifest.contract == project.contract
    assert stored.manifest.metrics["validation_accuracy"] > 0.9
    rows = pd.read_parquet(project.files(good) / "validation.parquet")
    answers = load(stored).predict(encode_rows(rows, project.contract)).values
    assert np.mean(answers == rows["target"]) == stored.manifest.metrics["validation_accuracy"]


def test_without_a_champion_nothing_is_deployed_and_that_is_said(project, poor, tmp_path, caplog):
    project.forget()
    for prepare in (lambda: None, lambda: register(project, poor)):
        prepare()
        caplog.clear()

        project.run("deployment")

        said = "nothing deployed: no candidate was promoted by `kedro run --pipeline registry`"
        assert said in caplog.text
    assert query(project.url, TRAIL) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["graph", "example"])
def test_a_champion_that_is_not_what_was_trained_is_neither_published_nor_deployed(
    project, good, tmp_path, what
):
    path = project.files(good) / ("model.onnx" if what == "graph" else "description.json")
    original = path.read_bytes()
    if what == "graph":
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    else:
        description = json.loads(original)
        description["example"]["predictions"][0] += 1
        path.write_text(json.dumps(description))
    try:
        with refused(ReleaseError) as refusal:
            project.run("deployment")
    finally:
        path.write_bytes(original)
    assert ("was altered" if what == "graph" else "answers its own example") in refusal.message
    assert query(project.url, TRAIL) == []
    assert list(tmp_path.iterdir()) == []


def test_a_new_database_beside_old_releases_gets_releases_of_its_own(project, good, tmp_path):
    """Versions begin at 1 again, and the same training gives the same graph."""
    project.run("deployment")
    project.forget()
    again = project.log(SVC)
    register(project, again)

    project.run("deployment")

    ((_, release, version, run_id, _, _),) = query(project.url, TRAIL)
    assert (version, run_id) == (1, again)
    store = ReleaseStore(str(tmp_path))
    served, old = (store.manifest("iris", name) for name in (release, f"iris-v1-{good[:8]}"))
    assert served.model_sha256 == old.model_sha256
    assert (served.run_id, old.run_id) == (again, good)
