"""MLflow's model registry, as the datasets and the `kedro model` commands use it."""

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.sklearn import load_model

from mlops_for_mle.datasets.model_files import (
    read_onnx,
    read_passport,
    read_validation,
    temporary_folder,
)
from mlops_for_mle.errors import PrerequisiteError, UserError
from mlops_for_mle.records import Candidate, ChampionBundle, ModelVersion

CHAMPION = "champion"
CONTRACT_TAG = "mlops.contract"
CANDIDATE_TAG = "mlops.candidate_model"
DECISION_TAG = "mlops.decision"
REASONS_TAG = "mlops.reasons"


def newest_candidate(client: MlflowClient, contract: str, experiment: str) -> Candidate:
    """The candidate that was logged last for a contract.

    Raises:
        PrerequisiteError: There is none.
    """
    found = client.get_experiment_by_name(experiment)
    runs = (
        client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{CONTRACT_TAG}` = '{contract}' AND tags.`{CANDIDATE_TAG}` != ''",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if found is not None
        else []
    )
    if not runs:
        raise PrerequisiteError(
            f"No candidate was trained for {contract} yet: run `kedro run --pipeline training` "
            "first."
        )
    return Candidate(runs[0].info.run_id, runs[0].data.tags[CANDIDATE_TAG])


def register(client: MlflowClient, name: str, candidate: Candidate) -> int:
    """Make a version of the registered model from a candidate, once.

    Returns:
        The version's number; the existing one when the candidate was registered before.
    """
    for version in versions(client, name):
        if version.source == candidate.model_uri:
            return int(version.version)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        source=candidate.model_uri,
        run_id=candidate.run_id,
        model_id=candidate.model_uri.removeprefix("models:/"),
    )
    return int(created.version)


def versions(client: MlflowClient, name: str) -> list[Any]:
    """All versions of a registered model, the newest first; none when it does not exist."""
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    return list(found)


def champion_version(client: MlflowClient, name: str) -> Any | None:
    """The version that has the alias ``champion``, or None."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def decision_in_words(client: MlflowClient, name: str, number: int | None) -> str:
    """What was decided on a version, in a sentence; None takes the newest."""
    version = client.get_model_version(name, str(number or versions(client, name)[0].version))
    decision = version.tags.get(DECISION_TAG, "undecided")
    return f"version {version.version} {decision}: {version.tags.get(REASONS_TAG, '')}"


def find_version(client: MlflowClient, name: str, wanted: str) -> Any:
    """Find a version by its number, an alias or the run that trained it.

    Raises:
        UserError: There is no such version; the message lists those that there are.
    """
    known = versions(client, name)
    for version in known:
        if wanted in (version.version, str(version.version), version.run_id):
            return client.get_model_version(name, version.version)
    try:
        return client.get_model_version_by_alias(name, wanted)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
    if not known:
        raise PrerequisiteError(
            f"There is no version of {name} yet: run `kedro run --pipeline registry` first."
        )
    numbers = ", ".join(str(version.version) for version in reversed(known))
    raise UserError(
        f"{name} has no version, alias or run {wanted!r}; versions: {numbers}; "
        f"an alias is for example {CHAMPION}."
    )


def load_version(name: str, version: Any) -> ModelVersion:
    """Download a version and load the scikit-learn model and what was stored with it."""
    where = f"Version {version.version} of {name}"
    with temporary_folder() as folder:
        path = Path(download_artifacts(f"models:/{name}/{version.version}", dst_path=folder))
        return ModelVersion(
            name=name,
            version=int(version.version),
            run_id=version.run_id,
            model=load_model(str(path)),
            passport=read_passport(path, where),
            validation=read_validation(path),
        )


def load_bundle(name: str, version: Any) -> ChampionBundle:
    """Download a version's ONNX graph and passport, without loading the scikit-learn model."""
    where = f"Version {version.version} of {name}"
    with temporary_folder() as folder:
        path = Path(download_artifacts(f"models:/{name}/{version.version}", dst_path=folder))
        return ChampionBundle(
            name=name,
            version=int(version.version),
            run_id=version.run_id,
            registered_at=int(version.creation_timestamp),
            passport=read_passport(path, where),
            onnx=read_onnx(path),
        )
