"""What training writes: files of its MLflow run, with copies of the last run's in ``data``."""

import logging
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kedro.io import AbstractDataset

from mlops_for_mle.paths import project_path
from mlops_for_mle.pipelines.dataset import ProjectDataset
from mlops_for_mle.pipelines.training.nodes import Trained
from mlops_for_mle.releases.manifest import CANDIDATE_TAG, ModelDescription
from mlops_for_mle.releases.metrics import format_metric

_NEEDED_TO_LOAD = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")
_TRUSTED = ("sklearn", "numpy", "scipy", "lightgbm", "collections")

_LOGGER = logging.getLogger(__name__)


class RunFileDataset(ProjectDataset):
    """A file of a run, written by a library's dataset.

    Runs at the same time do not share it: each writes and logs a file of its own, which then
    replaces the last run's, and reads what it has written itself.
    """

    # It belongs to MLflow's run, which is in this process.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        dataset: dict[str, Any],
        artifact_path: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the library's entry, with a local ``filepath``, and where the run logs the file."""
        super().__init__(metadata, filepath=dataset["filepath"], artifact_path=artifact_path)
        self._filepath, self._artifact_path = Path(dataset["filepath"]), artifact_path
        self._config, self._dataset = dataset, AbstractDataset.from_config("file", dataset)
        self._written: Any = None
        if hasattr(self._dataset, "preview"):
            self.preview = self._dataset.preview

    def save(self, data: Any) -> None:
        """Write the file, log it to the active run and move it to its path."""
        import mlflow

        path = self._filepath
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f"{path.stem}.", dir=path.parent) as folder:
            written = Path(folder) / path.name
            config = self._config | {"filepath": str(written)}
            AbstractDataset.from_config("file", config).save(data)
            if self._artifact_path is not None:
                mlflow.log_artifact(str(written), self._artifact_path)
            written.replace(path)
        self._written = data

    def load(self) -> Any:
        """What this run has written, else the last run's file."""
        return self._dataset.load() if self._written is None else self._written

    def _release(self) -> None:
        self._written = None


class CandidateDataset(ProjectDataset):
    """Logs a candidate to the active run: its model, snapshot, metrics and code revision."""

    _SINGLE_PROCESS = True

    def __init__(self, name: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the logged model within its run."""
        super().__init__(metadata, name=name)
        self._name = name

    def save(self, data: tuple[Trained, ModelDescription]) -> None:
        """Log to the active run; the tags, by which the candidate is found, come last."""
        import mlflow
        import skops.io
        from mlflow.models import infer_signature
        from sklearn.model_selection import FixedThresholdClassifier

        trained, description = data
        model, validation = trained.model, trained.examples.validation
        if description.threshold is not None:
            # Whoever loads it gets the answers that are served.
            model = FixedThresholdClassifier(model, threshold=description.threshold)
        facts = {"estimator": description.estimator, "onnx_precision": description.precision}
        parameters = {f"estimator.{name}": value for name, value in trained.parameters.items()}
        mlflow.log_params(facts | parameters)
        if trained.trials is not None:
            name = "candidates.csv" if description.candidates else "search.csv"
            mlflow.log_text(trained.trials.to_csv(index=False), name)
        example = validation.features.head(len(description.example.rows))
        needed = [*_NEEDED_TO_LOAD]
        if description.estimator.startswith("LGBM"):
            needed.append("lightgbm")
        untrusted = skops.io.get_untrusted_types(data=skops.io.dumps(model))
        trusted = [name for name in untrusted if name.partition(".")[0] in _TRUSTED]
        with TemporaryDirectory() as path:
            folder = Path(path)
            trained.examples.rows.to_parquet(folder / "snapshot.parquet", index=False)
            mlflow.log_artifact(str(folder / "snapshot.parquet"), "snapshot")
            (folder / "model.onnx").write_bytes(trained.predictor.model)
            document = description.model_dump_json(indent=2)
            (folder / "description.json").write_text(document, "utf-8")
            validation.rows.to_parquet(folder / "validation.parquet", index=False)
            files = ("model.onnx", "description.json", "validation.parquet")
            logged = mlflow.sklearn.log_model(
                model,
                name=self._name,
                signature=infer_signature(example, model.predict(example)),
                input_example=example,
                pip_requirements=[f"{package}=={version(package)}" for package in needed],
                skops_trusted_types=trusted,
                extra_files=[str(folder / file) for file in files],
            )
        mlflow.log_metrics(description.metrics, model_id=logged.model_id)
        mlflow.set_tags(
            {
                "mlflow.source.git.commit": _code_revision(),
                "mlops.contract": description.contract.name,
                CANDIDATE_TAG: f"models:/{logged.model_id}",
            }
        )
        metrics = {name: format_metric(value) for name, value in description.metrics.items()}
        scores = ", ".join(f"{name} {metrics[name]}" for name in metrics if "validation" in name)
        details = (logged.run_id, description.estimator, scores, description.precision)
        _LOGGER.info("run=%s candidate %s (%s, ONNX %s)", *details)
        for remark in description.remarks:
            _LOGGER.info("candidate %s: %s", description.estimator, remark)


def _code_revision() -> str:
    """The git commit, with ``-dirty`` where files differ from it.

    In an image there is no checkout; its build leaves the commit in ``MLOPS_CODE_REVISION``.
    """
    describe = ("git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    try:
        return subprocess.check_output(
            describe, cwd=project_path(), stderr=subprocess.DEVNULL, text=True
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("MLOPS_CODE_REVISION", "unknown")
