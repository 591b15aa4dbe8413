"""The registered model as catalog entries: versions, the champion, and the decision about it."""

import json
import logging
from typing import Any, NoReturn

from kedro.io import AbstractDataset

from mlops_for_mle.contract import Contract
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.records import (
    Candidate,
    ChampionBundle,
    Decision,
    Incumbent,
    ModelVersion,
    NothingToDeploy,
)

_LOGGER = logging.getLogger(__name__)


class _RegistryDataset:
    """What the entries of the registry share: the contract, whose name is the model's."""

    # MLflow's client is not made for processes that are forked.
    _SINGLE_PROCESS = True

    def __init__(self, contract: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Take the parameters block ``contract``."""
        self._name = Contract.model_validate(contract).name
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"model": self._name}


class ModelVersionDataset(_RegistryDataset, AbstractDataset[Candidate, ModelVersion]):
    """Saving a candidate registers it; loading gives the version back from the registry."""

    _number: int | None = None

    def save(self, data: Candidate) -> None:
        """Register the candidate, once."""
        from mlflow import MlflowClient

        from mlops_for_mle.datasets.model_registry import register

        self._number = register(MlflowClient(), self._name, data)
        _LOGGER.info("model=%s version=%d run=%s registered", self._name, self._number, data.run_id)

    def load(self) -> ModelVersion:
        """Download and load the version that this session registered, else the newest.

        Raises:
            PrerequisiteError: There is no version yet.
        """
        from mlflow import MlflowClient

        from mlops_for_mle.datasets.model_registry import find_version, load_version, versions

        client = MlflowClient()
        known = versions(client, self._name)
        number = self._number or (known[0].version if known else None)
        return load_version(self._name, find_version(client, self._name, str(number)))


class IncumbentDataset(_RegistryDataset, ReadOnlyDataset[Incumbent]):
    """The champion before the decision, or none."""

    def load(self) -> Incumbent:
        """Download and load the champion."""
        from mlflow import MlflowClient

        from mlops_for_mle.datasets.model_registry import champion_version, load_version

        version = champion_version(MlflowClient(), self._name)
        return Incumbent(None if version is None else load_version(self._name, version))


class DecisionDataset(_RegistryDataset, AbstractDataset[Decision, Decision]):
    """Carries a decision out: tags on the version, an artifact on its run, and the alias."""

    def save(self, data: Decision) -> None:
        """Record the decision with its reasons, then move the alias if it says so."""
        from mlflow import MlflowClient

        from mlops_for_mle.datasets.model_registry import CHAMPION, DECISION_TAG, REASONS_TAG

        client = MlflowClient()
        number = str(data.version)
        outcome = "promoted" if data.promote else "rejected"
        client.set_model_version_tag(data.name, number, DECISION_TAG, outcome)
        client.set_model_version_tag(data.name, number, REASONS_TAG, "; ".join(data.reasons))
        for name, value in data.candidate_metrics.items():
            client.set_model_version_tag(data.name, number, f"mlops.{name}", f"{value:.9g}")
        client.log_dict(data.run_id, json.loads(data.model_dump_json()), "decision.json")
        if data.promote:
            client.set_registered_model_alias(data.name, CHAMPION, number)
        _LOGGER.info(
            "model=%s version=%d %s: %s", data.name, data.version, outcome, "; ".join(data.reasons)
        )

    def load(self) -> NoReturn:
        """Not possible.

        Raises:
            NotImplementedError: Always; the champion is read by its own entry.
        """
        raise NotImplementedError("the champion is read by its own entry")


class ChampionBundleDataset(_RegistryDataset, ReadOnlyDataset[ChampionBundle | NothingToDeploy]):
    """The champion's files for a release."""

    def load(self) -> ChampionBundle | NothingToDeploy:
        """Download the champion.

        Raises:
            PrerequisiteError: Nothing was registered yet.
        """
        from mlflow import MlflowClient

        from mlops_for_mle.datasets.model_registry import champion_version, load_bundle, versions

        client = MlflowClient()
        version = champion_version(client, self._name)
        if version is not None:
            return load_bundle(self._name, version)
        if not versions(client, self._name):
            raise PrerequisiteError(
                f"Model {self._name} has no champion yet: run `kedro run --pipeline registry` "
                "first."
            )
        return NothingToDeploy(f"every candidate of {self._name} was rejected so far")
