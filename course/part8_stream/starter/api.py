"""A prediction API for the worker to ask: ``uvicorn api:app``."""

from fastapi import FastAPI
from pydantic import BaseModel


class Flower(BaseModel):
    """What is asked about; anything else is answered with 422."""

    # Step 2: four lengths, above 0 and at most 30.


class Prediction(BaseModel):
    """What is answered: 0 setosa, 1 versicolor, 2 virginica, and which model says so."""

    iris_class: int
    model: str


app = FastAPI(title="Predictions")


@app.post("/predict")
def predict(flower: Flower) -> Prediction:
    """Answer by a tree of two questions, which is right for 144 of the 150 known flowers."""
    raise NotImplementedError("step 2: petal_length below 2.45 is 0, petal_width below 1.75 is 1")
