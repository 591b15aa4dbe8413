"""MLflow's runs and registry as catalog entries: the last candidate, and the champion.

A registered model is called like its contract; versions, aliases and tags are MLflow's.
"""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from mlops_for_mle.database.engine import lock
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.dataset import ContractDataset, ProjectDataset
from mlops_for_mle.pipelines.registry.nodes import Decision, LoggedCandidate
from mlops_for_mle.releases.deployments import current
from mlops_for_mle.releases.manifest import (
    CANDIDATE_TAG,
    Champion,
    Deployment,
    Manifest,
    ModelDescription,
    Release,
    release_name,
)

CHAMPION = "champion"
DECISION_TAG = "mlops.decision"
REASONS_TAG = "mlops.reasons"
_ROLLBACK_TAG = "mlops.rollback"

_LOGGER = logging.getLogger(__name__)


class LoggedCandidateDataset(ProjectDataset):
    """The candidate that the active run has logged, else the newest one of the contract."""

    # The active run is this process's.
    _SINGLE_PROCESS = True

    def __init__(
        self, contract: str, experiment: str, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(metadata, contract=contract, experiment=experiment)
        self._contract, self._experiment = contract, experiment

    def load(self) -> LoggedCandidate:
        """Find and read it; a ``UserError`` where none was trained yet."""
        client, active = MlflowClient(), mlflow.active_run()
        runs = [client.get_run(active.info.run_id)] if active else []
        if not any(CANDIDATE_TAG in run.data.tags for run in runs):
            runs = mlflow.search_runs(
                experiment_names=[self._experiment],
                filter_string=f"tags.`mlops.contract` = '{self._contract}' AND "
                f"tags.`{CANDIDATE_TAG}` != ''",
                order_by=["attributes.start_time DESC"],
                max_results=1,
                output_format="list",
            )
        if not runs:
            raise UserError(
                f"No candidate was trained for {self._contract} yet: run `kedro run --pipeline "
                "training` first."
            )
        uri = runs[0].data.tags[CANDIDATE_TAG]
        files = client.get_logged_model(uri.removeprefix("models:/")).artifact_location
        return LoggedCandidate(runs[0].info.run_id, uri, *_read_files(files))


class ChampionDataset(ContractDataset):
    """The champion of a registered model; saving a decision may make another version champion."""

    _SINGLE_PROCESS = True

    def save(self, data: Decision) -> None:
        """Register the candidate once, tag its version with the decision, and move the alias.

        Decisions are saved one at a time: in MLflow two of them would collide.
        """
        client, name = MlflowClient(), self._contract.name
        outcome, reasons = "promoted" if data.promote else "rejected", "; ".join(data.reasons)
        with self._engine.begin() as connection:
            lock(connection, f"versions of {name}")
            saved = [version for version in versions(client, name) if version.run_id == data.run_id]
            if not saved:
                # Asked first, since a refused creation is an error in the log of the database.
                if not client.search_registered_models(f"name = '{name}'"):
                    client.create_registered_model(name)
                logged = data.model_uri.removeprefix("models:/")
                saved = [
                    client.create_model_version(name, data.model_uri, data.run_id, model_id=logged)
                ]
                # By this, MLflow's page shows it at the logged model. A server does so itself.
                link = json.dumps([{"name": name, "version": saved[0].version}])
                client.set_logged_model_tags(logged, {MLFLOW_MODEL_VERSIONS: link})
            number = str(saved[0].version)
            client.set_model_version_tag(name, number, DECISION_TAG, outcome)
            client.set_model_version_tag(name, number, REASONS_TAG, reasons)
            if data.promote:
                client.set_registered_model_alias(name, CHAMPION, number)
        _LOGGER.info(
            "model=%s version=%s run=%s %s: %s", name, number, data.run_id, outcome, reasons
        )

    def load(self) -> Champion | None:
        """Download the champion, if there is one."""
        with self._engine.connect() as connection:
            deployment = current(connection, self._contract.name)
        version = champion_version(MlflowClient(), self._contract.name, deployment)
        if version is None:
            return None
        return Champion(**dict(load_version(version)), deployment=deployment)


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model, the newest first; none when it does not exist."""
    return list(client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"]))


def champion_version(
    client: MlflowClient, name: str, newest: Deployment | None
) -> ModelVersion | None:
    """The version that has the alias ``champion``, or None.

    The API rolls back without MLflow, so where the newest deployment is a rollback that the alias
    has not followed yet, it does so now.
    """
    rollback = newest if newest and newest.event == "rollback" else None
    for model in client.search_registered_models(f"name = '{name}'"):
        if rollback and model.tags.get(_ROLLBACK_TAG) != str(rollback.id):
            for version in versions(client, name):
                if version.run_id == rollback.run_id:
                    client.set_registered_model_alias(name, CHAMPION, str(version.version))
                    client.set_registered_model_tag(name, _ROLLBACK_TAG, str(rollback.id))
                    return version
        if CHAMPION in model.aliases:
            return client.get_model_version(name, str(model.aliases[CHAMPION]))
    return None


def find_version(client: MlflowClient, name: str, wanted: str) -> ModelVersion:
    """Find a version by its number, the run that trained it, or an alias."""
    for version in versions(client, name):
        if wanted in (str(version.version), version.run_id):
            return version
    return client.get_model_version_by_alias(name, wanted)


def load_version(version: ModelVersion) -> Release:
    """Download a version in its served form."""
    description, model, _ = _read_files(f"models:/{version.name}/{version.version}")
    manifest = Manifest(
        **dict(description),
        release=release_name(version.name, int(version.version), version.run_id),
        created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, tz=UTC),
        version=int(version.version),
        run_id=version.run_id,
    )
    return Release(manifest=manifest, model=model)


def _read_files(model: str) -> tuple[ModelDescription, bytes, pd.DataFrame]:
    """Read what training has stored with a model: description, ONNX graph, validation rows."""
    with TemporaryDirectory() as folder:
        files = Path(download_artifacts(f"{model}/extra_files", dst_path=folder))
        description = (files / "description.json").read_bytes()
        return (
            ModelDescription.model_validate_json(description),
            (files / "model.onnx").read_bytes(),
            pd.read_parquet(files / "validation.parquet"),
        )
