"""The model as a BentoML service: MODEL=folder bentoml serve bentoml_service:Served"""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Served:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"] + "/model.joblib")

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows.astype(float))
