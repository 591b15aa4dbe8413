"""The champion: download it by its alias (``python champion.py``), load it, ask it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
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
    features = np.array([[row[name] for name in FEATURES] for row in rows], dtype=np.float64)
    labels = champion.session.run(["label"], {"features": features.reshape(-1, len(FEATURES))})[0]
    return [SPECIES[label] for label in labels]


def load(folder: Path) -> Champion:
    """Load ``model.onnx`` of a folder, and let it answer the example.

    Raises:
        ModelError: The file is missing or broken, or the model cannot answer.
    """
    # An alias is a link: it is followed once, so that version and model belong together.
    folder = folder.resolve()
    try:
        champion = Champion(folder.name, InferenceSession(folder / "model.onnx"))
        predict(champion, [EXAMPLE])
    # The errors of ONNX Runtime have no class in common.
    except Exception as error:
        raise ModelError(f"no model that answers in {folder.name}: {error}") from error
    return champion


def download(registry: str, name: str, alias: str, models: Path) -> str:
    """Bring the version that an alias names now to ``models/VERSION``, and link ``models/ALIAS``.

    Raises:
        ModelError: What was downloaded does not answer; nothing has changed.
        mlflow.exceptions.MlflowException: The registry is away, or has no such alias.
    """
    # It takes seconds to import, and the server does not need it.
    import mlflow

    mlflow.set_tracking_uri(registry)
    version = str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
    models.mkdir(parents=True, exist_ok=True)
    if not (models / version).exists():
        with TemporaryDirectory(dir=models, prefix="incomplete-") as temporary:
            incomplete = Path(temporary, version)
            mlflow.artifacts.download_artifacts(
                f"models:/{name}/{version}", dst_path=str(incomplete)
            )
            load(incomplete)
            incomplete.rename(models / version)
    link = models / f"{alias}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(models / alias)
    return version


def main() -> None:
    """Download once; what prevents it ends the program with a sentence."""
    from mlflow.exceptions import MlflowException

    registry = os.environ.get("MLFLOW_TRACKING_URI", "http://localhost:5000")
    alias = os.environ.get("MODEL_ALIAS", "champion")
    models = Path(os.environ.get("MODELS", "models"))
    try:
        version = download(registry, "iris", alias, models)
    except (MlflowException, ModelError) as error:
        raise SystemExit(f"No {alias} from {registry}: {error}") from None
    print(f"{models / alias} is version {version}.")


if __name__ == "__main__":
    main()
