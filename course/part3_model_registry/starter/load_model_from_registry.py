"""Answers rows by a registered model: ``python load_model_from_registry.py champion FILE.csv``."""

import sys
from pathlib import Path


def answer(name: str, wanted: str, path: Path) -> tuple[int, list[int]]:
    """The version that an alias or a number stands for now, and its answers to a file's rows.

    Raises:
        mlflow.MlflowException: There is no such version, or the rows do not fit its signature.
    """
    raise NotImplementedError("step 6: resolve once, load that number, predict")


def main(arguments: list[str]) -> None:
    """Print the version and its answers, or a sentence of what does not fit."""
    raise NotImplementedError("step 6: require_server(), answer(), print; SystemExit on an error")


if __name__ == "__main__":
    main(sys.argv[1:])
