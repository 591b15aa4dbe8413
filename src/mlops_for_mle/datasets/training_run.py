"""What training writes to its MLflow run, and how later pipelines find it."""

import logging
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from mlops_for_mle.contract import Contract
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.datasets.model_files import temporary_folder, write_model_files
from mlops_for_mle.datasets.provenance import code_revision, environment
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.metric_names import metric_text
from mlops_for_mle.records import Candidate, ModelPassport, Snapshot, TrainedModel
from mlops_for_mle.release import SnapshotFacts

_LOGGER = logging.getLogger(__name__)


class SnapshotDataset(AbstractDataset[Snapshot, Snapshot]):
    """The rows of a run: Parquet on disk and in the run, and as the run's dataset input."""

    # It belongs to MLflow's run, which is in this process.
    _SINGLE_PROCESS = True

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the Parquet file; its facts stand beside it as JSON."""
        self._filepath = Path(filepath)
        self.metadata = metadata

    def save(self, data: Snapshot) -> None:
        """Write the files and log them to the active run."""
        import mlflow

        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        data.rows.to_parquet(self._filepath, index=False)
        self._facts_path.write_text(data.facts.model_dump_json(indent=2), encoding="utf-8")
        if mlflow.active_run() is None:
            return
        for path in (self._filepath, self._facts_path):
            mlflow.log_artifact(str(path), artifact_path="snapshot")
        facts = data.facts
        _log_input(data)
        mlflow.set_tags(
            {
                "mlops.snapshot_sha256": facts.sha256,
                "mlops.snapshot_watermark": str(facts.watermark),
                "mlops.snapshot_rows": str(facts.row_count),
            }
        )
        _LOGGER.info(
            "snapshot of %s: %d rows, watermark=%s, sha256=%s…",
            facts.source,
            facts.row_count,
            facts.watermark,
            facts.sha256[:12],
        )

    def load(self) -> Snapshot:
        """The snapshot that was written last."""
        if not self._filepath.exists():
            raise PrerequisiteError(
                "There is no snapshot yet: run `kedro run --pipeline training` first."
            )
        facts = SnapshotFacts.model_validate_json(self._facts_path.read_text("utf-8"))
        return Snapshot(facts, pd.read_parquet(self._filepath))

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows, for Kedro-Viz."""
        return TablePreview(self.load().rows.head(nrows).to_dict(orient="split"))

    @property
    def _facts_path(self) -> Path:
        return self._filepath.with_suffix(".json")

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class TrainedModelDataset(AbstractDataset[TrainedModel, None]):
    """Logs a trained model with its ONNX form, signature, example and passport to the run."""

    # It belongs to MLflow's run, which is in this process.
    _SINGLE_PROCESS = True

    def __init__(self, name: str, metadata: dict[str, Any] | None = None) -> None:
        """Name the logged model within its run."""
        self._name = name
        self.metadata = metadata

    def save(self, data: TrainedModel) -> None:
        """Log to the active run.

        Raises:
            PrerequisiteError: No MLflow run is active.
        """
        import mlflow

        from mlops_for_mle.datasets.model_registry import CANDIDATE_TAG, CONTRACT_TAG

        run = mlflow.active_run()
        if run is None:
            raise PrerequisiteError(
                "No MLflow run is active: train with `kedro run --pipeline training`."
            )
        passport = data.passport
        encoding = encoding_of(passport.contract)
        features = pd.DataFrame(encoding.rows(passport.example.rows), columns=list(encoding.names))
        mlflow.log_params(data.parameters)
        with temporary_folder() as folder:
            logged = mlflow.sklearn.log_model(
                data.model,
                name=self._name,
                signature=mlflow.models.infer_signature(features, data.model.predict(features)),
                input_example=features,
                pip_requirements=_requirements(),
                skops_trusted_types=_trusted_types(data.model),
                extra_files=write_model_files(Path(folder), data),
                metadata={"inputs": encoding.describe(), "answers": _describe_answers(passport)},
            )
        mlflow.log_metrics(passport.metrics, model_id=logged.model_id)
        mlflow.log_dict(environment(), "environment.json")
        mlflow.set_tags(
            {
                **code_revision(),
                CONTRACT_TAG: passport.contract.name,
                CANDIDATE_TAG: f"models:/{logged.model_id}",
            }
        )
        _LOGGER.info(
            "run=%s candidate %s (%s, ONNX %s, %d points compared)",
            run.info.run_id,
            passport.estimator,
            ", ".join(
                f"{name} {metric_text(value)}"
                for name, value in passport.metrics.items()
                if name.startswith("validation_")
            ),
            passport.precision,
            passport.parity.point_count,
        )

    def load(self) -> NoReturn:
        """Not possible.

        Raises:
            NotImplementedError: Always; ``CandidateDataset`` finds what was logged.
        """
        raise NotImplementedError("a logged candidate is read by its own entry")

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name}


class CandidateDataset(ReadOnlyDataset[Candidate]):
    """The candidate of the active run, else the one that was logged last."""

    # It belongs to MLflow's run, which is in this process.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        contract: dict[str, Any],
        experiment: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters block ``contract`` and the experiment's name."""
        self._contract = Contract.model_validate(contract)
        self._experiment = experiment
        self.metadata = metadata

    def load(self) -> Candidate:
        """Find the candidate.

        Raises:
            PrerequisiteError: None was trained yet.
        """
        import mlflow

        from mlops_for_mle.datasets.model_registry import CANDIDATE_TAG, newest_candidate

        client = mlflow.MlflowClient()
        active = mlflow.active_run()
        if active is not None:
            tags = client.get_run(active.info.run_id).data.tags
            if CANDIDATE_TAG in tags:
                return Candidate(active.info.run_id, tags[CANDIDATE_TAG])
        return newest_candidate(client, self._contract.name, self._experiment)

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract.name}


def _describe_answers(passport: ModelPassport) -> dict[str, str]:
    """What the numbers mean that the model answers."""
    target = passport.contract.target
    if not target.classes:
        return {target.column: "a number"}
    return {str(code): target.labels[code] for code in target.class_codes}


def _log_input(snapshot: Snapshot) -> None:
    """Log a snapshot as the dataset input of the active run.

    MLflow looks whether it knows the dataset before it adds it, so that two runs on the same rows
    at the same moment collide; the second attempt finds what the other run has added. Only that
    one may show what MLflow writes of the collision.
    """
    import mlflow
    from mlflow.data.sources import CodeDatasetSource
    from mlflow.exceptions import MlflowException

    facts, rows = snapshot.facts, snapshot.rows
    store_log = logging.getLogger("mlflow.store.db.utils")
    for is_last in (False, True):
        store_log.disabled = not is_last
        try:
            mlflow.log_input(
                mlflow.data.from_pandas(
                    rows.astype(
                        dict.fromkeys(rows.select_dtypes(include="integer").columns, "float64")
                    ),
                    source=CodeDatasetSource(
                        {"rows_of": facts.source, "watermark": str(facts.watermark)}
                    ),
                    name=facts.source,
                    digest=facts.sha256[:36],
                ),
                context="training",
                tags={"watermark": str(facts.watermark), "row_count": str(facts.row_count)},
            )
        except MlflowException:
            if is_last:
                raise
        else:
            return
        finally:
            store_log.disabled = False


def _requirements() -> list[str]:
    """What loading the model needs, pinned to the versions that trained it."""
    from importlib.metadata import version

    names = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")
    return [f"{name}=={version(name)}" for name in names]


def _trusted_types(model: Any) -> list[str]:
    """The types of scikit-learn and NumPy in this model, which loading it must be told to trust."""
    import skops.io

    untrusted: list[str] = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    allowed = ("sklearn.", "numpy.", "scipy.")
    return [name for name in untrusted if name.startswith(allowed)]
