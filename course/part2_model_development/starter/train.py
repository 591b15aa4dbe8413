"""Trains, measures and saves a model: ``python train.py [FILE.csv]``; else from the table."""

import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import onnxruntime
import pandas as pd
import skops.io
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.pipeline import Pipeline

from data import FEATURES, hash_split, leak, random_split, read_csv, read_table
from database import connect, database_url
from model import fit, measure

# The conversion to ONNX asks for attributes that scikit-learn is about to rename.
warnings.filterwarnings("ignore", category=FutureWarning)


def save(model: Pipeline, folder: Path) -> None:
    """Write ``model.joblib``, ``model.skops`` and ``model.onnx``; make the folder if need be."""
    raise NotImplementedError("step 6: joblib.dump, skops.io.dump, to_onnx")


def load(folder: Path) -> Pipeline:
    """Read ``model.skops``.

    Raises:
        skops.io.exceptions.UntrustedTypesFoundException: It holds what is no part of scikit-learn.
    """
    raise NotImplementedError("step 6: skops.io.load")


def answers_of_graph(folder: Path, rows: pd.DataFrame) -> NDArray[Any]:
    """What ``model.onnx`` answers to rows."""
    raise NotImplementedError("step 7: an InferenceSession, run on the features as float64")


def validate(model: Pipeline, folder: Path, rows: pd.DataFrame) -> None:
    """Check that what was saved answers as the model does.

    Raises:
        ValueError: It does not; says for how many rows.
    """
    raise NotImplementedError("step 7: compare what was saved with the model")


def main(arguments: list[str]) -> None:
    """Train on both splits, print what they promise, and save the model of the honest one."""
    if arguments:
        rows = read_csv(Path(arguments[0]))
    else:
        rows = read_table(connect(database_url()), newest=1000)
    for name, split in (
        ("random", random_split(rows, 0.25, seed=1)),
        ("hash", hash_split(rows, 0.25)),
    ):
        training, validation = split
        model = fit(training)
        print(f"{name}: leak {leak(split):.2f}, {measure(model, validation)}")
    save(model, Path("models"))
    validate(model, Path("models"), rows)
    print(f"Saved in models: skops and ONNX answer {len(rows)} rows as the model does.")


if __name__ == "__main__":
    main(sys.argv[1:])
