"""What is asked of a model registry: which version, the model itself, and who is champion."""

import math
import os

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel
from sklearn.pipeline import Pipeline

from data import FEATURES, TARGET

MODEL = "part3_iris"
CHAMPION = "champion"


def require_server() -> None:
    """End the program with a sentence where MLFLOW_TRACKING_URI is not set.

    MLflow would make a store of its own in this folder, which nobody else sees.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise SystemExit("Set MLFLOW_TRACKING_URI, such as http://localhost:5000")


def resolve(name: str, wanted: str) -> int:
    """The number of the version that a number or an alias stands for.

    Raises:
        mlflow.MlflowException: There is no such alias.
    """
    if wanted.isdecimal():
        return int(wanted)
    return int(MlflowClient().get_model_version_by_alias(name, wanted).version)


def load(name: str, version: int) -> PyFuncModel:
    """Load a version, which checks what it is given against its signature."""
    return mlflow.pyfunc.load_model(f"models:/{name}/{version}")


def measure(model: Pipeline | PyFuncModel, rows: pd.DataFrame) -> float:
    """The share of rows that a model, loaded or just trained, answers rightly."""
    return float((model.predict(rows[FEATURES]) == rows[TARGET]).mean())


def promote(name: str, version: int, least: float = 0.8) -> str:
    """Load a version back, measure it, and make it the champion if it deserves it.

    Returns:
        ``promoted: ...`` or ``rejected: ...`` with the reason, which is the tag ``decision``, too.

    Raises:
        ValueError: What was loaded is not the model that its run has measured.
    """
    client = MlflowClient()
    run = client.get_run(client.get_model_version(name, str(version)).run_id)
    path = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/validation.csv")
    rows = pd.read_csv(path)
    measured, recorded = measure(load(name, version), rows), run.data.metrics["accuracy"]
    if not math.isclose(measured, recorded):
        raise ValueError(f"Version {version} has {measured:.4f}, its run recorded {recorded:.4f}")
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    rival = measure(load(name, int(champion)), rows) if champion else 0.0
    if measured < least:
        decision = f"rejected: accuracy {measured:.4f} is below {least:.4f}"
    elif measured < rival:
        decision = f"rejected: accuracy {measured:.4f}, version {champion} has {rival:.4f}"
    else:
        client.set_registered_model_alias(name, CHAMPION, str(version))
        decision = f"promoted: accuracy {measured:.4f}"
    client.set_model_version_tag(name, str(version), "decision", decision)
    return decision
