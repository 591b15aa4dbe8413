"""A prediction API for the worker to ask: ``uvicorn api:app``."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field

# Centimetres.
Length = Annotated[float, Field(gt=0, le=30)]


class Flower(BaseModel):
    """What is asked about; anything else is answered with 422."""

    sepal_length: Length
    sepal_width: Length
    petal_length: Length
    petal_width: Length


class Prediction(BaseModel):
    """What is answered: 0 setosa, 1 versicolor, 2 virginica, and which model says so."""

    iris_class: int
    model: str


app = FastAPI(title="Predictions")


@app.post("/predict")
def predict(flower: Flower) -> Prediction:
    """Answer by a tree of two questions, which is right for 144 of the 150 known flowers."""
    if flower.petal_length < 2.45:
        return Prediction(iris_class=0, model="tree-1")
    return Prediction(iris_class=1 if flower.petal_width < 1.75 else 2, model="tree-1")
