"""Candidates that real training has logged to a real MLflow store."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.database import engine_for
from mlops_for_mle.datasets.batch_writer import write_batch
from mlops_for_mle.datasets.sources import load_sklearn_table
from mlops_for_mle.datasets.training_run import CandidateDataset
from mlops_for_mle.records import Candidate
from tests.integration.observations import batch_of
from tests.integration.projects import run_session
from tests.integration.registry_steps import RegistrySteps

STUMP = {"class_path": "sklearn.tree.DecisionTreeClassifier", "parameters": {"max_depth": 1}}


@pytest.fixture(scope="module")
def steps(
    project_folder: Path, module_database_url: str, contract: Contract
) -> Iterator[RegistrySteps]:
    """A project on the session's server with the rows of iris and an MLflow store."""
    from mlflow import MlflowClient
    from mlops_for_mle.datasets.model_registry import versions
    from mlops_for_mle.resolvers import mlflow_tracking_uri

    rows = load_sklearn_table("load_iris")
    rows.columns = list(contract.columns)
    write_batch(engine_for(module_database_url), contract, batch_of(contract, rows))
    # The session's modules share MLflow's store, so each one has an experiment of its own.
    experiment = project_folder.name
    globals_file = project_folder / "conf/local/globals.yml"
    globals_file.write_text(f"experiment: {experiment}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PROJECT_PATH", str(project_folder))
        patch.setenv("DATABASE_URL", module_database_url)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(project_folder)
        client = MlflowClient(mlflow_tracking_uri())
        yield RegistrySteps(project_folder, contract, experiment, client)
        if versions(client, contract.name):
            client.delete_registered_model(contract.name)


def train(steps: RegistrySteps, **parameters: Any) -> Candidate:
    """Run the pipeline training and give what it has logged."""
    run_session(steps.folder, "training", **parameters)
    return CandidateDataset(steps.raw_contract, steps.experiment).load()


@pytest.fixture(scope="module")
def good(steps: RegistrySteps) -> Candidate:
    """The candidate of the shipped parameters."""
    return train(steps)


@pytest.fixture(scope="module")
def poor(steps: RegistrySteps, good: Candidate) -> Candidate:
    """A decision tree with one question, which can tell two of the classes; trained last."""
    del good
    return train(steps, training={"estimator": STUMP})


@pytest.fixture(scope="session", autouse=True)
def quiet_import() -> None:
    """MLflow warns of a class of kedro-mlflow in the test that happens to import it first."""
    with warnings.catch_warnings(record=True):
        import kedro_mlflow.mlflow  # noqa: F401
