"""Candidates as training logs them, and a project in whose registry they may become champion."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_rows, plain_rows, to_array
from mlops_for_mle.contract.encoding import encode_target
from mlops_for_mle.pipelines.registry.datasets import champion_version
from mlops_for_mle.releases.manifest import ModelDescription
from mlops_for_mle.releases.metrics import measure
from mlops_for_mle.releases.predictor import Predictor
from mlops_for_mle.releases.ranges import training_ranges
from tests.projects import run_session
from tests.releases import iris_rows, make_release
from tests.servers import query

if TYPE_CHECKING:
    from mlflow import MlflowClient


def shuffled_iris_rows() -> pd.DataFrame:
    """The whole iris table in an order without meaning."""
    return iris_rows().sample(frac=1, random_state=0, ignore_index=True)


def describe(
    model: Pipeline, contract: Contract, validation: pd.DataFrame
) -> tuple[ModelDescription, bytes]:
    """What training says of a fitted model, measured on the validation rows, and its graph."""
    is_sure = hasattr(model, "predict_proba")
    examples = plain_rows(validation.head(3), contract)
    release = make_release(model, contract, examples, with_probabilities=is_sure)
    matrix = encode_rows(validation, contract)
    answers = Predictor(release.model, contract).predict(matrix)
    target = contract.target
    truth = encode_target(to_array(validation[target.column], target.feature), target)
    found = measure(answers, truth, target)
    facts = {name: getattr(release.manifest, name) for name in ModelDescription.model_fields}
    facts["metrics"] = {f"validation_{name}": value for name, value in found.items()}
    facts["training_ranges"] = training_ranges(matrix, contract)
    return ModelDescription.model_validate(facts), release.model


@dataclass(frozen=True)
class RegistryProject:
    """A project on the session's server, with tables and an MLflow store.

    Attributes:
        folder: The project's.
        url: Its database.
        contract: Names the registered model.
        experiment: Where its candidates are logged.
        client: MLflow's, on the project's store.
    """

    folder: Path
    url: str
    contract: Contract
    experiment: str
    client: "MlflowClient"

    def log(self, model: Any) -> str:
        """Train on half of iris, and log the candidate as training does; gives its run."""
        import mlflow

        rows = shuffled_iris_rows()
        learned, validation = rows[:75], rows[75:].reset_index(drop=True)
        pipeline = Pipeline([("scaler", StandardScaler()), ("model", model)])
        features = learned[list(self.contract.feature_names)].to_numpy()
        pipeline.fit(features, learned[self.contract.target.column])
        description, graph = describe(pipeline, self.contract, validation)
        mlflow.set_experiment(self.experiment)
        with TemporaryDirectory() as folder, mlflow.start_run() as run:
            files = Path(folder)
            (files / "model.onnx").write_bytes(graph)
            (files / "description.json").write_text(description.model_dump_json(), "utf-8")
            validation.to_parquet(files / "validation.parquet", index=False)
            logged = mlflow.sklearn.log_model(
                pipeline,
                name="sk_model",
                pip_requirements=["scikit-learn"],
                extra_files=[str(path) for path in sorted(files.iterdir())],
                skops_trusted_types=["numpy.dtype", "sklearn.tree._tree.Tree"],
            )
            mlflow.log_metrics(description.metrics, model_id=logged.model_id)
            mlflow.set_tag("mlops.contract", self.contract.name)
            mlflow.set_tag("mlops.candidate_model", f"models:/{logged.model_id}")
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
        found = champion_version(self.client, self.contract.name)
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
    return registry_project.log(SVC())


@pytest.fixture(scope="module")
def poor(registry_project: RegistryProject, good: str) -> str:
    """That of a tree with one question, which can tell two of the classes; it is the newest."""
    del good
    return registry_project.log(DecisionTreeClassifier(max_depth=1))
