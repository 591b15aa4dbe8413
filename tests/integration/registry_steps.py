"""The steps of the pipelines registry and deployment, one by one, on real stores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from mlops_for_mle.contract import Contract
from mlops_for_mle.datasets.registry import DecisionDataset, IncumbentDataset, ModelVersionDataset
from mlops_for_mle.pipelines.registry.nodes import confirm_metrics, decide, register_candidate
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.records import Candidate, Decision, ModelVersion


@dataclass(frozen=True)
class RegistrySteps:
    """A project's registry.

    Attributes:
        folder: The project's folder.
        contract: Names the registered model.
        experiment: Where training logs its runs.
        client: MLflow's, on the project's store.
    """

    folder: Path
    contract: Contract
    experiment: str
    client: MlflowClient

    @property
    def raw_contract(self) -> dict[str, Any]:
        return self.contract.model_dump(mode="json")

    def register(self, candidate: Candidate) -> ModelVersion:
        entry = ModelVersionDataset(self.raw_contract)
        entry.save(register_candidate(candidate))
        return entry.load()

    def decide_on(self, candidate: Candidate, **gates: Any) -> Decision:
        """Register a candidate and apply the shipped gates, changed as told."""
        version, found = confirm_metrics(self.register(candidate), self.contract)
        incumbent = IncumbentDataset(self.raw_contract).load()
        decision = decide(version, found, incumbent, self.contract, self._gates(gates))
        DecisionDataset(self.raw_contract).save(decision)
        return decision

    def champion(self) -> int | None:
        incumbent = IncumbentDataset(self.raw_contract).load().champion
        return None if incumbent is None else incumbent.version

    def dethrone(self) -> None:
        self.client.delete_registered_model_alias(self.contract.name, "champion")

    def _gates(self, changes: dict[str, Any]) -> GateOptions:
        path = self.folder / "conf/base/parameters_registry.yml"
        shipped = yaml.safe_load(path.read_text("utf-8"))["gates"]
        return GateOptions.model_validate(shipped | changes)


def model_folder(steps: RegistrySteps, candidate: Candidate) -> Path:
    """Where MLflow keeps the files of a logged model."""
    model = steps.client.get_logged_model(candidate.model_uri.removeprefix("models:/"))
    return Path(model.artifact_location.removeprefix("file://"))
