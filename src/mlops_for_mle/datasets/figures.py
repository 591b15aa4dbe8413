"""Plots as catalog entries."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview

from mlops_for_mle.errors import PrerequisiteError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureDataset(AbstractDataset["Figure", bytes]):
    """A figure as a PNG file, in the active MLflow run too, shown by Kedro-Viz.

    kedro-datasets' own entry imports pyplot with every catalog, which takes a second.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the PNG file."""
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: "Figure") -> None:
        """Draw the figure, and log it to the active run."""
        import mlflow

        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        data.savefig(self._filepath, dpi=120)
        if mlflow.active_run() is not None:
            mlflow.log_artifact(str(self._filepath), artifact_path="plots")

    def load(self) -> bytes:
        """The PNG file that was drawn last."""
        if not self._filepath.exists():
            raise PrerequisiteError(
                f"There is no {self._filepath.name} yet: run `kedro run --pipeline training` first."
            )
        return self._filepath.read_bytes()

    def preview(self) -> ImagePreview:
        """The picture, for Kedro-Viz."""
        return ImagePreview(base64.b64encode(self.load()).decode())

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
