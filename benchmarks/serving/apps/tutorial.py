"""The tutorial's prediction API, of its Part 6: MODEL=folder uvicorn tutorial:app"""

import os

import mlflow
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, create_model

model = mlflow.sklearn.load_model(os.environ["MODEL"])
app = FastAPI()

# With iris the four fields that the tutorial writes out.
PredictIn = create_model("PredictIn", **dict.fromkeys(model.feature_names_in_, (float | None, ...)))


class PredictOut(BaseModel):
    iris_class: int


@app.post("/predict", response_model=PredictOut)
def predict(data: PredictIn) -> PredictOut:
    rows = pd.DataFrame([data.model_dump()], dtype=float)
    return PredictOut(iris_class=model.predict(rows).item())
