"""Trains, logs, registers and promotes a model: ``python save_model_to_registry.py [C]``."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models.model import ModelInfo
from sklearn.pipeline import Pipeline

from data import hash_split, read_csv
from registry import MODEL, promote, require_server

EXPERIMENT = "part3"
# What another machine has to install to load the model.
REQUIREMENTS = [f"{name}=={installed(name)}" for name in ("scikit-learn", "skops", "pandas")]


def fit(training: pd.DataFrame, c: float) -> Pipeline:
    """Scale and classify; a smaller ``c`` makes a smoother model."""
    raise NotImplementedError("step 2: a Pipeline of scaler and classifier, fitted on frames")


def log_run(training: pd.DataFrame, validation: pd.DataFrame, c: float) -> ModelInfo:
    """Train inside of a run, and log what was chosen, what came out, and the model.

    Returns:
        Where the model is (``model_uri``), and of which run (``run_id``).
    """
    raise NotImplementedError("step 2: start_run, log_params, log_metric, log_text, log_model")


def register(info: ModelInfo, name: str) -> int:
    """Make the logged model the next version of a registered model; gives its number."""
    raise NotImplementedError("step 3: mlflow.register_model")


def main(arguments: list[str]) -> None:
    """Train with the C that was given, or 1."""
    require_server()
    mlflow.set_experiment(EXPERIMENT)
    training, validation = hash_split(read_csv(Path("iris.csv")), 0.25)
    info = log_run(training, validation, float(arguments[0]) if arguments else 1.0)
    version = register(info, MODEL)
    print(f"Version {version} of {MODEL}, run {info.run_id}")
    print(promote(MODEL, version))


if __name__ == "__main__":
    main(sys.argv[1:])
