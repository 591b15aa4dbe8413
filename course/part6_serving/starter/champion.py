"""The champion: download it by its alias (``python champion.py``), load it, ask it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxruntime import InferenceSession

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SPECIES = ("setosa", "versicolor", "virginica")
# What every model must be able to answer before anybody else may ask it.
EXAMPLE = dict(zip(FEATURES, (5.1, 3.5, 1.4, 0.2), strict=True))


class ModelError(Exception):
    """There is no model in a folder, or it does not answer."""


@dataclass(frozen=True)
class Champion:
    """A model that is loaded, and the version that it is."""

    version: str
    session: InferenceSession


def predict(champion: Champion, rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Name the species of each row."""
    raise NotImplementedError("step 1: an n x 4 array of float64 as `features`, and back `label`")


def load(folder: Path) -> Champion:
    """Load ``model.onnx`` of a folder, and let it answer the example.

    Raises:
        ModelError: The file is missing or broken, or the model cannot answer.
    """
    raise NotImplementedError("step 1: an InferenceSession, and predict() for EXAMPLE")


def download(registry: str, name: str, alias: str, models: Path) -> str:
    """Bring the version that an alias names now to ``models/VERSION``, and link ``models/ALIAS``.

    Raises:
        ModelError: What was downloaded does not answer; nothing has changed.
        mlflow.exceptions.MlflowException: The registry is away, or has no such alias.
    """
    raise NotImplementedError("step 2: ask for the version, download beside, check, rename, link")


def main() -> None:
    """Download once; whatever prevents it ends the program with a sentence."""
    registry = os.environ.get("MLFLOW_TRACKING_URI", "http://localhost:5000")
    alias = os.environ.get("MODEL_ALIAS", "champion")
    models = Path(os.environ.get("MODELS", "models"))
    # Step 2: an error becomes SystemExit with a sentence.
    version = download(registry, "iris", alias, models)
    print(f"{models / alias} is version {version}.")


if __name__ == "__main__":
    main()
