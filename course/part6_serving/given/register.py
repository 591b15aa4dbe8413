"""Trains a small model, and makes it the champion of the registry: ``python register.py``.

The registry is at ``MLFLOW_TRACKING_URI``. ``python register.py 0.01`` trains with another ``C``.
"""

import os
import sys
import warnings

import mlflow
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore", category=FutureWarning)


def main(arguments: list[str]) -> None:
    """Fit, convert to ONNX, log with a run, register, and move the alias."""
    rows = pd.read_csv("iris.csv")
    features, labels = rows.drop(columns="target").to_numpy(), rows["target"].to_numpy()
    inverse_penalty = float(arguments[0]) if arguments else 1.0
    model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty))
    model.fit(features, labels)
    inputs = [("features", DoubleTensorType([None, features.shape[1]]))]
    graph = to_onnx(model, initial_types=inputs, options={"zipmap": False})

    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", "http://localhost:5000"))
    mlflow.set_experiment("part6")
    with mlflow.start_run():
        mlflow.log_param("C", inverse_penalty)
        logged = mlflow.onnx.log_model(
            graph, name="model", registered_model_name="iris", pip_requirements=["onnxruntime"]
        )
    version = str(logged.registered_model_version)
    mlflow.MlflowClient().set_registered_model_alias("iris", "champion", version)
    print(f"iris version {version} is champion.")


if __name__ == "__main__":
    main(sys.argv[1:])
