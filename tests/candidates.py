"""Candidates as training logs them, and a project in whose registry they may become champion."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.registry.datasets import champion_version
from mlops_for_mle.pipelines.training.datasets import CandidateDataset
from tests.pipelines.training.examples import assemble
from tests.projects import run_session
from tests.releases import iris_rows
from tests.servers import query

if TYPE_CHECKING:
    from mlflow import MlflowClient

SVC = {"class_path": "sklearn.svm.SVC"}


@dataclass(frozen=True)
class RegistryProject:
    """A project on the session's server, with tables and an MLflow store of its own."""

    folder: Path
    url: str
    contract: Contract
    experiment: str
    client: "MlflowClient"

    def log(self, estimator: dict[str, Any]) -> str:
        """Train on half of iris, and log the candidate as training does; gives its run."""
        import mlflow

        options = {"estimator": estimator, "validation_fraction": 0.5, "calibrate": False}
        candidate = assemble(iris_rows(), self.contract, **options).candidate
        mlflow.set_experiment(self.experiment)
        with mlflow.start_run() as run:
            CandidateDataset("sk_model").save(candidate)
        return str(run.info.run_id)

    def run(self, pipeline: str, from_nodes: list[str] | None = None, **parameters: Any) -> None:
        """What `kedro run --pipeline` does in a process of its own."""
        run_session(self.folder, pipeline, from_nodes=from_nodes, **parameters)

    def versions(self) -> dict[str, Any]:
        """The registered versions by the run that trained them."""
        found = self.client.search_model_versions(f"name = '{self.contract.name}'")
        return {version.run_id: version for version in found}

    def champion(self) -> str | None:
        """The run of the champion."""
        found = champion_version(self.client, self.contract.name, None)
        return found.run_id if found else None

    def files(self, run_id: str) -> Path:
        """Where MLflow keeps what was logged with a candidate."""
        uri = self.client.get_run(run_id).data.tags["mlops.candidate_model"]
        model = self.client.get_logged_model(uri.removeprefix("models:/"))
        return Path(model.artifact_location.removeprefix("file://")) / "extra_files"

    def forget(self) -> None:
        """Delete the registered model, and the audit trail."""
        if self.versions():
            self.client.delete_registered_model(self.contract.name)
        query(self.url, "TRUNCATE deployments")


@pytest.fixture(scope="module")
def registry_project(
    project_folder: Path, module_database_url: str, contract: Contract
) -> Iterator[RegistryProject]:
    """One project for the tests of a module; its experiment is its own."""
    import mlflow

    from mlops_for_mle.config import mlflow_artifact_location, mlflow_tracking_uri

    experiment = project_folder.name
    (project_folder / "conf/local/globals.yml").write_text(f"experiment: {experiment}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
        patch.setenv("DATABASE_URL", module_database_url)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(project_folder)
        uri = mlflow_tracking_uri()
        mlflow.set_tracking_uri(uri)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = mlflow.MlflowClient(uri)
        created = client.create_experiment(experiment, mlflow_artifact_location())
        # This process may have run in another module's; later ones are told by no variable.
        patch.setenv("MLFLOW_EXPERIMENT_ID", created)
        mlflow.set_experiment(experiment_id=created)
        patch.delenv("MLFLOW_EXPERIMENT_ID")
        project = RegistryProject(project_folder, module_database_url, contract, experiment, client)
        yield project
        project.forget()


@pytest.fixture(scope="module")
def good(registry_project: RegistryProject) -> str:
    """The run of a candidate that tells the classes of iris apart."""
    return registry_project.log(SVC)


@pytest.fixture(scope="module")
def poor(registry_project: RegistryProject, good: str) -> str:
    """That of a tree with one question, which can tell two of the classes; it is the newest."""
    del good
    tree = "sklearn.tree.DecisionTreeClassifier"
    return registry_project.log({"class_path": tree, "parameters": {"max_depth": 1}})
