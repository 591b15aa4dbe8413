"""Monitoring runs and their reports as catalog entries."""

import logging
import re
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import HTMLPreview, TablePreview

from mlops_for_mle import monitoring_log
from mlops_for_mle.database import reachable
from mlops_for_mle.datasets.base import ContractTables
from mlops_for_mle.datasets.model_files import temporary_folder
from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.experiment import ensure_experiment
from mlops_for_mle.foreign_errors import usable
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.records_monitoring import MonitoringReport

RUN_NAME = "monitoring"
RUN_TAG = "mlops.monitoring_run"
STATUS_TAG = "mlops.monitoring_status"
REPORT_FILE = "monitoring.html"

_RUN_FIRST = "Nothing was monitored yet: run `kedro run --pipeline monitoring` first."
_BODY = re.compile(r"<body>(.*)</body>", re.DOTALL)
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
# What MLflow takes in the name of a metric.
_NOT_IN_A_NAME = re.compile(r"[^/\w.\- :]")

_LOGGER = logging.getLogger(__name__)


class MonitoringRunDataset(ContractTables, AbstractDataset[MonitoringRun, MonitoringRun]):
    """Records a run with its metrics in one transaction."""

    _recorded: MonitoringRun | None = None

    def save(self, data: MonitoringRun) -> None:
        """Append the run."""
        with reachable(self._url) as engine, engine.begin() as connection:
            self._recorded = recorded = monitoring_log.append(connection, data)
        level = logging.INFO if data.status in {"healthy", "insufficient"} else logging.WARNING
        _LOGGER.log(
            level,
            "monitoring=%d release=%s %s: %d predictions, %d labelled",
            recorded.id,
            data.release,
            data.status,
            data.prediction_count,
            data.labelled_count,
        )

    def load(self) -> MonitoringRun:
        """The run that this session has recorded, else the newest, with its metrics.

        Raises:
            PrerequisiteError: There is none.
        """
        if self._recorded is not None:
            return self._recorded
        with reachable(self._url) as engine, engine.connect() as connection:
            found = monitoring_log.newest(connection, self._contract.name)
        if found is None:
            raise PrerequisiteError(_RUN_FIRST)
        return found

    def preview(self, nrows: int = 10) -> TablePreview:
        """The newest runs, for Kedro-Viz."""
        names = ["id", "created_at", "status", "release", "prediction_count", "labelled_count"]
        with reachable(self._url) as engine, engine.connect() as connection:
            runs = monitoring_log.history(connection, self._contract.name, nrows)
        return TablePreview(
            {
                "index": list(range(len(runs))),
                "columns": [*names, "reasons"],
                "data": [
                    [*(str(getattr(run, name)) for name in names), " ".join(run.reasons)]
                    for run in runs
                ],
            }
        )

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | {"table": "monitoring_runs"}


class MonitoringReportDataset(AbstractDataset[MonitoringReport, str]):
    """The newest report as a file, and every report in an MLflow run of its own.

    The runs have an experiment to themselves: many of them come in a day, and none is a candidate.
    """

    def __init__(
        self, filepath: str, experiment: str, metadata: dict[str, Any] | None = None
    ) -> None:
        """Name the HTML file and MLflow's experiment."""
        self._filepath = Path(filepath)
        self._experiment = experiment
        self.metadata = metadata

    def save(self, data: MonitoringReport) -> None:
        """Write the file, then log the report and its numbers.

        Raises:
            UserError: MLflow cannot be used; the file was written.
        """
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        self._filepath.write_text(data.html, encoding="utf-8")
        with usable(f"{self._filepath} was written, but MLflow"):
            run_id = _log_report(data, self._experiment)
        _LOGGER.info("report: %s and MLflow run %s", self._filepath, run_id)

    def load(self) -> str:
        """The report that was written last.

        Raises:
            PrerequisiteError: There is none.
        """
        if not self._filepath.exists():
            raise PrerequisiteError(_RUN_FIRST)
        return self._filepath.read_text("utf-8")

    def preview(self) -> HTMLPreview:
        """The report without its head, for Kedro-Viz; its style is for its own elements only."""
        html = self.load()
        style, body = _STYLE.search(html), _BODY.search(html)
        return HTMLPreview((style.group() if style else "") + (body.group(1) if body else html))

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "experiment": self._experiment}


def _log_report(report: MonitoringReport, experiment: str) -> str:
    """Log a report to a new run and give the run's id."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    from mlops_for_mle.config import mlflow_artifact_location

    uri = mlflow.get_tracking_uri()
    ensure_experiment(uri, experiment, mlflow_artifact_location())
    client = mlflow.MlflowClient(uri)
    run = report.run
    logged = client.create_run(
        client.get_experiment_by_name(experiment).experiment_id,
        run_name=RUN_NAME,
        tags={RUN_TAG: str(run.id), STATUS_TAG: run.status, "mlops.contract": run.contract},
    )
    identifier = str(logged.info.run_id)
    now = logged.info.start_time
    client.log_batch(
        identifier,
        metrics=[
            Metric(_metric_name(one.area, one.subject, one.metric), one.value, now, 0)
            for one in run.metrics
            if one.value is not None
        ],
        params=[
            Param("release", run.release),
            Param("model_version", str(run.model_version)),
            Param("prediction_count", str(run.prediction_count)),
            Param("labelled_count", str(run.labelled_count)),
        ],
        tags=[RunTag("mlflow.note.content", "\n".join(f"- {one}" for one in run.reasons))],
    )
    with temporary_folder() as folder:
        path = Path(folder, REPORT_FILE)
        path.write_text(report.html, encoding="utf-8")
        client.log_artifact(identifier, str(path))
    client.set_terminated(identifier)
    return identifier


def _metric_name(*parts: str) -> str:
    return _NOT_IN_A_NAME.sub("_", "/".join(part.replace("/", "_") for part in parts))[:250]
