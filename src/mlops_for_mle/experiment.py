"""MLflow's experiment, made once even by two processes at the same time."""

from mlops_for_mle.errors import UserError
from mlops_for_mle.foreign_errors import reason_of


def ensure_experiment(tracking_uri: str, name: str, artifact_location: str | None) -> None:
    """Create the experiment where it is missing.

    Raises:
        UserError: MLflow does not answer.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        if client.get_experiment_by_name(name) is None:
            client.create_experiment(name, artifact_location=artifact_location)
    except (MlflowException, SQLAlchemyError) as error:
        if getattr(error, "error_code", None) == "RESOURCE_ALREADY_EXISTS":
            return
        raise UserError(
            f"MLflow at MLFLOW_TRACKING_URI does not answer: {reason_of(error)}"
        ) from error
