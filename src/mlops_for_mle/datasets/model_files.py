"""The files that travel inside a logged model beside scikit-learn's own, and how to read them."""

import tempfile
from pathlib import Path

import pandas as pd

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.errors import UserError
from mlops_for_mle.records import ModelPassport, TrainedModel
from mlops_for_mle.release import MODEL_FILE

PASSPORT_FILE = "passport.json"
VALIDATION_FILE = "validation.parquet"
FOLDER = "extra_files"


def write_model_files(folder: Path, trained: TrainedModel) -> list[str]:
    """Write ONNX graph, passport and validation rows, for MLflow to log with the model.

    Returns:
        The paths that were written.
    """
    (folder / MODEL_FILE).write_bytes(trained.onnx)
    (folder / PASSPORT_FILE).write_text(
        trained.passport.model_dump_json(indent=2), encoding="utf-8"
    )
    trained.validation.to_parquet(folder / VALIDATION_FILE, index=False)
    return [str(folder / name) for name in (MODEL_FILE, PASSPORT_FILE, VALIDATION_FILE)]


def read_passport(model_folder: Path, where: str) -> ModelPassport:
    """Read the passport of a downloaded model.

    Raises:
        UserError: The model was not logged by this project's training.
    """
    path = model_folder / FOLDER / PASSPORT_FILE
    if not path.is_file():
        raise UserError(
            f"{where} has no {PASSPORT_FILE}: it was not logged by `kedro run --pipeline training`."
        )
    import json

    return parse_configuration(ModelPassport, json.loads(path.read_text("utf-8")), PASSPORT_FILE)


def read_onnx(model_folder: Path) -> bytes:
    """Read the ONNX graph of a downloaded model."""
    return (model_folder / FOLDER / MODEL_FILE).read_bytes()


def read_validation(model_folder: Path) -> pd.DataFrame:
    """Read the validation rows of a downloaded model."""
    return pd.read_parquet(model_folder / FOLDER / VALIDATION_FILE)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is deleted after use."""
    return tempfile.TemporaryDirectory(prefix="mlops-for-mle-")
