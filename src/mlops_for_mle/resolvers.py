"""What ``conf`` may ask for: where the database, MLflow and the releases are."""

import os
from collections.abc import Callable
from typing import Any

from mlops_for_mle.errors import ConfigurationError


def database_url() -> str:
    """``${database_url:}``: ``DATABASE_URL`` or the embedded server."""
    from mlops_for_mle.database import database_url as resolve

    return resolve()


def mlflow_tracking_uri() -> str:
    """``${mlflow_tracking_uri:}``: ``MLFLOW_TRACKING_URI`` or a database beside the project's."""
    configured = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if configured:
        return configured
    from mlops_for_mle.database import database_url as resolve
    from mlops_for_mle.database.schema import mlflow_store_url

    return mlflow_store_url(resolve())


def mlflow_artifact_location() -> str | None:
    """``${mlflow_artifact_location:}``: a local folder, or what an MLflow server decides."""
    if os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        return None
    configured = os.environ.get("MLOPS_ARTIFACT_LOCATION", "").strip()
    if configured:
        return configured
    from mlops_for_mle.paths import project_path

    return (project_path() / "data" / "mlflow" / "artifacts").as_uri()


def release_store() -> str:
    """``${release_store:}``: ``MLOPS_RELEASE_STORE`` or a folder of the project."""
    configured = os.environ.get("MLOPS_RELEASE_STORE", "").strip()
    if configured:
        return configured
    from mlops_for_mle.paths import project_path

    return str(project_path() / "data" / "releases")


def one_of(key: str, found: str, *allowed: str) -> str:
    """``${one_of:key,value,allowed,…}``: the value, if it is one of those allowed.

    Raises:
        ConfigurationError: It is not.
    """
    if found not in allowed:
        raise ConfigurationError(f"{key}: expected one of {', '.join(allowed)} (found {found!r})")
    return found


RESOLVERS: dict[str, Callable[..., Any]] = {
    "database_url": database_url,
    "mlflow_tracking_uri": mlflow_tracking_uri,
    "mlflow_artifact_location": mlflow_artifact_location,
    "release_store": release_store,
    "one_of": one_of,
}
