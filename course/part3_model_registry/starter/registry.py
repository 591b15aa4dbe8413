"""What is asked of a model registry: which version, the model itself, and who is champion."""

import os

import pandas as pd
from mlflow.pyfunc import PyFuncModel
from sklearn.pipeline import Pipeline

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
    raise NotImplementedError("step 4: MlflowClient().get_model_version_by_alias(name, alias)")


def load(name: str, version: int) -> PyFuncModel:
    """Load a version, which checks what it is given against its signature."""
    raise NotImplementedError("step 4: mlflow.pyfunc.load_model, models:/NAME/VERSION")


def measure(model: Pipeline | PyFuncModel, rows: pd.DataFrame) -> float:
    """The share of rows that a model, loaded or just trained, answers rightly."""
    raise NotImplementedError("step 2: compare model.predict(rows[FEATURES]) with the targets")


def promote(name: str, version: int, least: float = 0.8) -> str:
    """Load a version back, measure it, and make it the champion if it deserves it.

    Returns:
        ``promoted: ...`` or ``rejected: ...`` with the reason, which is the tag ``decision``, too.

    Raises:
        ValueError: What was loaded is not the model that its run has measured.
    """
    raise NotImplementedError("step 5: load, measure, compare; then the alias; then the tag")
