"""Trains, logs, registers and promotes a model: ``python save_model_to_registry.py [C]``."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from data import FEATURES, TARGET, hash_split, read_csv
from registry import MODEL, measure, promote, require_server

EXPERIMENT = "part3"
# What another machine has to install to load the model.
REQUIREMENTS = [f"{name}=={installed(name)}" for name in ("scikit-learn", "skops", "pandas")]


def fit(training: pd.DataFrame, c: float) -> Pipeline:
    """Scale and classify; a smaller ``c`` makes a smoother model."""
    model = Pipeline([("scaler", StandardScaler()), ("classifier", SVC(C=c))])
    return model.fit(training[FEATURES], training[TARGET])


def log_run(training: pd.DataFrame, validation: pd.DataFrame, c: float) -> ModelInfo:
    """Train inside of a run, and log what was chosen, what came out, and the model.

    Returns:
        Where the model is (``model_uri``), and of which run (``run_id``).
    """
    with mlflow.start_run():
        mlflow.log_params({"C": c, "training_rows": len(training)})
        model = fit(training, c)
        mlflow.log_metric("accuracy", measure(model, validation))
        mlflow.log_text(validation.to_csv(index=False), "validation.csv")
        features = training[FEATURES]
        return mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(features, model.predict(features)),
            pip_requirements=REQUIREMENTS,
        )


def register(info: ModelInfo, name: str) -> int:
    """Make the logged model the next version of a registered model; gives its number."""
    return int(mlflow.register_model(info.model_uri, name).version)


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
