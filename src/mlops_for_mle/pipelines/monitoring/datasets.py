"""What monitoring and retraining read and write: releases, the tables of monitoring, reports."""

import logging
import re
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import HTMLPreview
from sqlalchemy import Connection, Table, func, insert, select, text, update

from mlops_for_mle.config import run_page
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for, lock
from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs, retraining_decisions
from mlops_for_mle.errors import NotCalledForError, PrerequisiteError, UserError
from mlops_for_mle.pipelines.monitoring.counting import PredictionTable
from mlops_for_mle.pipelines.monitoring.options import MOST_WINDOWS
from mlops_for_mle.pipelines.monitoring.record import Metric, MonitoringRun, RetrainingDecision
from mlops_for_mle.pipelines.monitoring.report import MonitoringReport
from mlops_for_mle.pipelines.monitoring.retraining import (
    History,
    Verdict,
    WindowFinding,
    require_open,
)
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.store import ReleaseStore

_RUN_COLUMNS = [
    monitoring_runs.c[one.name] for one in fields(MonitoringRun) if one.name != "metrics"
]
_DECISION_COLUMNS = [retraining_decisions.c[one.name] for one in fields(RetrainingDecision)]
_GIVEN = ("id", "created_at")
# What MLflow takes in the name of a metric.
_NOT_IN_A_NAME = re.compile(r"[^/\w.\- :]")

# One of the runs that no retraining has answered: the newest that ended before a moment.
_NEWEST_WINDOW = """
SELECT id, {begin} AS begun, {end} AS ended FROM monitoring_runs AS runs
WHERE contract = :contract AND release = :release AND id > :answered AND {begin} > :answered_to
  AND {condition} {earlier} ORDER BY {end} DESC, id DESC LIMIT 1
"""
# Windows that do not overlap, the newest first: one that shares predictions with a newer one would
# repeat its alarm. Postgres chooses them, since many thousands of runs may look at one window while
# there is little traffic. Who looks back makes a new run of an old window, so the number of a run
# is no order.
_SEPARATE_WINDOWS = """
WITH RECURSIVE chosen AS (
    SELECT *, 1 AS number FROM ({newest}) AS newest
    UNION ALL
    SELECT earlier.*, number + 1 FROM chosen CROSS JOIN LATERAL ({earlier}) AS earlier
    WHERE number < :most
)
SELECT id, begun, ended, ARRAY(
    SELECT DISTINCT area FROM monitoring_metrics WHERE run_id = chosen.id AND is_alarm
) FROM chosen ORDER BY number
"""
_ANSWERED = """
SELECT coalesce(max(runs.id), 0), coalesce(max(window_to), '-infinity') AS window_to,
       coalesce(max(labelled_to), '-infinity') AS labelled_to
FROM monitoring_runs AS runs JOIN retraining_decisions AS decisions ON monitoring_run_id = runs.id
WHERE decisions.contract = :contract AND acted_at IS NOT NULL
"""
_JUDGED = "EXISTS (SELECT FROM monitoring_metrics WHERE run_id = runs.id AND area = 'performance')"
# Free where nobody has taken it up, or whoever has done so has ended: hooks.MlflowHooks holds the
# lock of its run as long as the run goes on.
_TAKE_UP = """
UPDATE retraining_decisions SET run_id = :run WHERE id = :id AND acted_at IS NULL AND NOT EXISTS (
    SELECT FROM retraining_decisions AS taken
    WHERE taken.contract = :contract AND taken.acted_at IS NULL AND taken.run_id <> :run
      AND NOT pg_try_advisory_xact_lock(hashtextextended('run ' || taken.run_id, 0))
)
"""
_CHANGED_AT = """
SELECT max(at) FROM (
    SELECT created_at AS at FROM deployments
    WHERE contract = :contract AND event IN ('deploy', 'rollback')
    UNION ALL SELECT acted_at FROM retraining_decisions WHERE contract = :contract
) AS changes
"""

_REPORT = """
INSERT INTO monitoring_reports (contract, html) VALUES (:contract, :html)
ON CONFLICT (contract) DO UPDATE SET html = excluded.html
"""

_LOGGER = logging.getLogger(__name__)


class _ContractDataset(AbstractDataset[Any, Any]):
    """An entry of a contract's rows in the project's database; read-only unless it says more."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters block ``contract`` and credentials with the key ``con``."""
        self._contract = Contract.model_validate(contract).name
        self._url: str = credentials["con"]
        self.metadata = metadata

    def save(self, data: Any) -> None:
        """Not possible, unless a kind of entry does it."""
        raise NotImplementedError

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract}


class DeployedReleaseDataset(_ContractDataset):
    """The release that is served now, and the rows that it was trained and validated on."""

    def __init__(self, url: str, **options: Any) -> None:
        """Take the URL of the release store, and what all entries take."""
        super().__init__(**options)
        self._store = ReleaseStore(url)

    def load(self) -> tuple[Release, pd.DataFrame]:
        """Fetch both.

        Raises:
            PrerequisiteError: Nothing is deployed.
        """
        with engine_for(self._url).connect() as connection:
            served = deployments.current(connection, self._contract)
        if served is None:
            raise PrerequisiteError(
                f"Nothing of {self._contract} is deployed yet, so there is nothing to monitor: "
                "run `kedro run` first."
            )
        release = self._store.fetch(self._contract, served.release)
        return release, read_snapshot(release.manifest.run_id, served.release)


class PredictionLogDataset(_ContractDataset):
    """The predictions and labels, which are counted where they lie."""

    def load(self) -> PredictionTable:
        """Give the table; nothing is read yet."""
        return PredictionTable(self._url)


class MonitoringRunDataset(_ContractDataset):
    """The runs of monitoring."""

    _recorded: MonitoringRun | None = None

    def save(self, data: MonitoringRun) -> None:
        """Record a run with its metrics in one transaction."""
        with engine_for(self._url).begin() as connection:
            made = _append(connection, monitoring_runs, _RUN_COLUMNS, data)
            metrics = [
                {"run_id": made["id"]}
                | {one.name: getattr(metric, one.name) for one in fields(Metric)}
                for metric in data.metrics
            ]
            if metrics:
                connection.execute(insert(monitoring_metrics), metrics)
        self._recorded = replace(data, **made)
        _LOGGER.log(
            logging.INFO if data.status in {"healthy", "insufficient"} else logging.WARNING,
            "monitoring=%d release=%s %s: %d predictions, %d labelled",
            *(made["id"], data.release, data.status, data.prediction_count, data.labelled_count),
        )

    def load(self) -> MonitoringRun:
        """The run that this session has recorded, else the newest, without its metrics.

        Raises:
            PrerequisiteError: There is none.
        """
        if self._recorded is not None:
            return self._recorded
        with engine_for(self._url).connect() as connection:
            row = _newest(connection, monitoring_runs, _RUN_COLUMNS, self._contract)
        if row is None:
            raise PrerequisiteError(
                "Nothing was monitored yet: run `kedro run --pipeline monitoring` first."
            )
        return MonitoringRun(**row)


class MonitoringReportDataset(AbstractDataset[MonitoringReport, str]):
    """The newest report as a file and for the API, and every report in an MLflow run of its own.

    The runs have an experiment to themselves: many of them come in a day, and none is a candidate.
    """

    def __init__(
        self,
        filepath: str,
        experiment: str,
        credentials: dict[str, Any],
        artifact_location: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Name the HTML file, MLflow's experiment, the database, and where files of runs lie."""
        self._filepath = Path(filepath)
        self._url: str = credentials["con"]
        self._experiment = experiment
        self._artifact_location = artifact_location
        self.metadata = metadata

    def save(self, data: MonitoringReport) -> None:
        """Write the file and the row, then log it and the run's numbers."""
        import mlflow

        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        self._filepath.write_text(data.html, encoding="utf-8")
        run = data.run
        with engine_for(self._url).begin() as connection:
            connection.execute(text(_REPORT), {"contract": run.contract, "html": data.html})
        with mlflow.start_run(
            experiment_id=self._experiment_id(),
            run_name="monitoring",
            tags={
                "mlops.contract": run.contract,
                "mlops.monitoring_run": str(run.id),
                "mlops.monitoring_status": run.status,
            },
            description="\n".join(f"- {reason}" for reason in run.reasons),
        ) as logged:
            names = ("release", "model_version", "prediction_count", "labelled_count")
            mlflow.log_params({name: getattr(run, name) for name in names})
            mlflow.log_metrics(
                {
                    _metric_name(one.area, one.subject, one.metric): one.value
                    for one in run.metrics
                    if one.value is not None
                }
            )
            mlflow.log_text(data.html, self._filepath.name)
        page = run_page(logged.info.experiment_id, logged.info.run_id)
        _LOGGER.info("report: %s and MLflow run %s", self._filepath, page)

    def load(self) -> str:
        """The report that was written last."""
        return self._filepath.read_text("utf-8")

    def preview(self) -> HTMLPreview:
        """The report without its head, for Kedro-Viz; its style is for its own elements only."""
        _, style, rest = re.split("(<style>.*?</style>)", self.load(), maxsplit=1, flags=re.DOTALL)
        return HTMLPreview(style + rest.partition("<body>")[2].partition("</body>")[0])

    def _experiment_id(self) -> str:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient()
        if client.get_experiment_by_name(self._experiment) is None:
            try:
                client.create_experiment(self._experiment, self._artifact_location)
            except MlflowException as error:
                # Another process has made it just now.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return str(client.get_experiment_by_name(self._experiment).experiment_id)

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "experiment": self._experiment}


class MonitoringHistoryDataset(_ContractDataset):
    """What monitoring has found of the deployed release since a retraining was last acted on."""

    def load(self) -> History:
        """Read it; empty before anything is deployed."""
        with engine_for(self._url).connect() as connection:
            served = deployments.current(connection, self._contract)
            return read_history(connection, self._contract, served.release if served else "")


class RetrainingDecisionDataset(_ContractDataset):
    """The decisions on retraining."""

    def save(self, data: RetrainingDecision) -> None:
        """Append one."""
        with engine_for(self._url).begin() as connection:
            made = _append(connection, retraining_decisions, _DECISION_COLUMNS, data)
        level = logging.INFO if data.decision == "none" else logging.WARNING
        _LOGGER.log(level, "decision=%d %s: %s", made["id"], data.decision, " ".join(data.reasons))

    def load(self) -> RetrainingDecision | None:
        """The newest; None before any."""
        with engine_for(self._url).connect() as connection:
            return newest_decision(connection, self._contract)


class RetrainingOutcomeDataset(RetrainingDecisionDataset):
    """How a retraining ended, in the row of the decision that it acted on."""

    def save(self, data: RetrainingDecision) -> None:
        """Conclude exactly that decision, unless it was concluded meanwhile."""
        table = retraining_decisions
        statement = update(table).where(table.c.id == data.id, table.c.acted_at.is_(None))
        with engine_for(self._url).begin() as connection:
            done = connection.execute(statement.values(acted_at=func.now(), outcome=data.outcome))
        if done.rowcount:
            _LOGGER.info("decision=%d concluded: %s", data.id, data.outcome)
        else:
            _LOGGER.warning("decision=%d was concluded by another run meanwhile", data.id)


class OpenDecisionDataset(_ContractDataset):
    """The decision that this MLflow run acts on: taken up when it is first read."""

    def load(self) -> RetrainingDecision:
        """Take up the newest decision, or give the one that this run has taken up.

        Raises:
            NotCalledForError: It does not call for a retraining, or another run acts on it.
        """
        import mlflow

        run = mlflow.active_run()
        if run is None:
            raise UserError("Retraining belongs to an MLflow run: let mlflow.yml track `retrain`.")
        bound = {"contract": self._contract, "run": run.info.run_id}
        with engine_for(self._url).begin() as connection:
            lock(connection, f"retraining of {self._contract}")
            own = retraining_decisions.c.run_id == bound["run"]
            taken = _newest(
                connection, retraining_decisions, _DECISION_COLUMNS, self._contract, own
            )
            if taken is not None:
                return RetrainingDecision(**taken)
            changed_at = connection.scalar(text(_CHANGED_AT), bound)
            decision = require_open(newest_decision(connection, self._contract), changed_at)
            if not connection.execute(text(_TAKE_UP), bound | {"id": decision.id}).rowcount:
                raise NotCalledForError(
                    f"Another run retrains {self._contract} already; its end is recorded in "
                    "retraining_decisions."
                )
            return decision


class DeployedAtDataset(_ContractDataset):
    """When a release was last put in service."""

    def load(self) -> datetime | None:
        """Read it; None before any."""
        with engine_for(self._url).connect() as connection:
            served = deployments.current(connection, self._contract)
        return None if served is None else served.created_at


class VerdictDataset(_ContractDataset):
    """What the gates have said of the version that the active run has registered."""

    def load(self) -> Verdict:
        """Read it from the version's tags; of the newest version where the run has none."""
        import mlflow

        client, run = mlflow.MlflowClient(), mlflow.active_run()
        versions = client.search_model_versions(
            f"name = '{self._contract}'", order_by=["version_number DESC"]
        )
        own = [one for one in versions if run is not None and one.run_id == run.info.run_id]
        version = (own or versions)[0]
        is_promoted = version.tags.get("mlops.decision") == "promoted"
        return Verdict(int(version.version), is_promoted, version.tags.get("mlops.reasons", ""))


def read_snapshot(run_id: str, release: str) -> pd.DataFrame:
    """Download the rows that a training run has recorded.

    Raises:
        PrerequisiteError: MLflow does not know the run, or it has no such file.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory() as folder:
        try:
            path = download_artifacts(
                run_id=run_id, artifact_path="snapshot/snapshot.parquet", dst_path=folder
            )
        except (MlflowException, OSError) as error:
            raise PrerequisiteError(
                f"The training snapshot of release {release} is not in MLflow run {run_id} "
                f"({error}): train and deploy again with `kedro run`."
            ) from error
        return pd.read_parquet(path)


def newest_decision(connection: Connection, contract: str) -> RetrainingDecision | None:
    """The newest decision of a contract; None before any."""
    row = _newest(connection, retraining_decisions, _DECISION_COLUMNS, contract)
    return None if row is None else RetrainingDecision(**row)


def read_history(connection: Connection, contract: str, release: str) -> History:
    """The newest windows, and those of labels, that no retraining has answered yet."""
    ((number, *answered_to),) = connection.execute(text(_ANSWERED), {"contract": contract})
    bound = {"contract": contract, "release": release, "answered": number, "most": MOST_WINDOWS}
    found = []
    for name, condition, last in zip(
        ("window", "labelled"), ("status <> 'insufficient'", _JUDGED), answered_to, strict=True
    ):
        part = {"begin": f"{name}_from", "end": f"{name}_to", "condition": condition}
        newest = _NEWEST_WINDOW.format(earlier="", **part)
        earlier = _NEWEST_WINDOW.format(earlier=f"AND {name}_to < chosen.begun", **part)
        statement = _SEPARATE_WINDOWS.format(newest=newest, earlier=earlier)
        rows = connection.execute(text(statement), bound | {"answered_to": last})
        found.append(
            tuple(
                WindowFinding(number, begun, ended, frozenset(areas))
                for number, begun, ended, areas in rows
            )
        )
    return History(*found)


def _append(connection: Connection, table: Table, columns: list[Any], row: Any) -> dict[str, Any]:
    """Append a record; gives what the database adds to it."""
    values = {one.name: getattr(row, one.name) for one in columns if one.name not in _GIVEN}
    statement = insert(table).values(values | {"reasons": list(row.reasons)})
    made = connection.execute(statement.returning(table.c.id, table.c.created_at)).one()
    return dict(made._mapping)


def _newest(
    connection: Connection, table: Table, columns: list[Any], contract: str, *conditions: Any
) -> dict[str, Any] | None:
    query = select(*columns).where(table.c.contract == contract, *conditions)
    row = connection.execute(query.order_by(table.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else {**row._mapping, "reasons": tuple(row.reasons)}


def _metric_name(*parts: str) -> str:
    return _NOT_IN_A_NAME.sub("_", "/".join(part.replace("/", "_") for part in parts))[:250]
