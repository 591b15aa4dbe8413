"""The tutorial's prediction API, as its Part 6 describes it: one row, one DataFrame, one predict.

    MODEL=folder uvicorn tutorial:app

Answers one row a request, like the tutorial's; the model is MLflow's folder of the version.
"""

import os

import mlflow
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel


class Measurements(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


class Prediction(BaseModel):
    iris_class: int


app = FastAPI()
model = mlflow.sklearn.load_model(os.environ["MODEL"])


@app.post("/predict", response_model=Prediction)
def predict(measurements: Measurements) -> Prediction:
    rows = pd.DataFrame([measurements.model_dump()])
    return Prediction(iris_class=model.predict(rows).item())
