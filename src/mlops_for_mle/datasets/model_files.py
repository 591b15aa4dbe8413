"""The files that travel inside a logged model beside scikit-learn's own, and how to read them."""

import tempfile
from pathlib import Path

import pandas as pd

from mlops_for_mle.configuration import parse_configuration
from mlops_for_mle.errors import UserError
from mlops_for_mle.records import ModelPassport
from mlops_for_mle.release import MODEL_FILE

PASSPORT_FILE = "passport.json"
VALIDATION_FILE = "validation.parquet"
FOLDER = "extra_files"


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
