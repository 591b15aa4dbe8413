"""Answers rows by a registered model: ``python load_model_from_registry.py champion FILE.csv``."""

import sys
from pathlib import Path

import pandas as pd
from mlflow import MlflowException

from registry import MODEL, load, require_server, resolve


def answer(name: str, wanted: str, path: Path) -> tuple[int, list[int]]:
    """The version that an alias or a number stands for now, and its answers to a file's rows.

    Raises:
        mlflow.MlflowException: There is no such version, or the rows do not fit its signature.
    """
    # Asked once: between two questions the alias could move.
    version = resolve(name, wanted)
    return version, load(name, version).predict(pd.read_csv(path)).tolist()


def main(arguments: list[str]) -> None:
    """Print the version and its answers, or a sentence of what does not fit."""
    require_server()
    if len(arguments) != 2:
        raise SystemExit("Give an alias or the number of a version, and a CSV file")
    wanted, path = arguments
    try:
        version, answers = answer(MODEL, wanted, Path(path))
    except (MlflowException, OSError) as error:
        raise SystemExit(str(error)) from None
    print(f"Version {version} answers {answers}")


if __name__ == "__main__":
    main(sys.argv[1:])
