"""What monitoring and retraining read and write: releases, predictions, their tables, reports."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pandas as pd
from sqlalchemy import Connection, RowMapping, Table, func, insert, select, text, update

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import lock, try_lock
from mlops_for_mle.database.tables import monitoring_metrics, monitoring_runs, retraining_decisions
from mlops_for_mle.errors import NothingToDoError, UserError
from mlops_for_mle.pipelines.dataset import ContractDataset
from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun
from mlops_for_mle.pipelines.monitoring.counting import RunQuery
from mlops_for_mle.pipelines.monitoring.options import MAX_WINDOWS
from mlops_for_mle.pipelines.monitoring.reference import DeployedRelease
from mlops_for_mle.pipelines.monitoring.retraining import (
    History,
    RetrainingDecision,
    WindowFinding,
    require_open,
)
from mlops_for_mle.releases import deployments
from mlops_for_mle.releases.manifest import CANDIDATE_TAG
from mlops_for_mle.releases.store import ReleaseStore

# The windows of a contract's newest release that no retraining has answered, since no other release
# was in service, the newest first, each without predictions of a newer one.
_WINDOWS = """
WITH RECURSIVE looks AS NOT MATERIALIZED (
    SELECT id, {name}_from AS window_from, {name}_to AS window_to FROM monitoring_runs AS runs
    WHERE contract = :contract AND {condition} AND release = (
        SELECT release FROM monitoring_runs WHERE contract = :contract ORDER BY id DESC LIMIT 1
    ) AND {name}_from > (
        SELECT coalesce(max({name}_to), '-infinity') FROM monitoring_runs
        WHERE contract = :contract AND id <= (
            SELECT max(monitoring_run_id) FROM retraining_decisions
            WHERE contract = :contract AND acted_at IS NOT NULL
        )
    ) AND {name}_from > (
        SELECT coalesce(max(created_at), '-infinity') FROM deployments
        WHERE contract = :contract AND release <> runs.release
    )
), apart AS (
    (SELECT * FROM looks ORDER BY window_to DESC, id DESC LIMIT 1)
    UNION ALL
    SELECT earlier.* FROM apart CROSS JOIN LATERAL (
        SELECT * FROM looks WHERE window_to < apart.window_from
        ORDER BY window_to DESC, id DESC LIMIT 1
    ) AS earlier
)
SELECT id, window_from,
       ARRAY(SELECT DISTINCT area FROM monitoring_metrics WHERE run_id = apart.id AND is_alarm)
FROM (SELECT * FROM apart LIMIT :most) AS apart ORDER BY window_to DESC
"""
_HAS_LABELS = (
    "EXISTS (SELECT FROM monitoring_metrics WHERE run_id = runs.id AND area = 'performance')"
)
_WINDOWS_BY_KIND = {
    "windows": _WINDOWS.format(name="window", condition="status <> 'insufficient'"),
    "labelled windows": _WINDOWS.format(name="labelled", condition=_HAS_LABELS),
}
_REPORT = """
INSERT INTO monitoring_reports (contract, html) VALUES (:contract, :html)
ON CONFLICT (contract) DO UPDATE SET html = excluded.html
"""

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class DeployedReleaseDataset(ContractDataset):
    """The release that is served now, with the rows that it was trained and validated on."""

    def __init__(self, url: str, **options: Any) -> None:
        """Take the URL of the release store, and what all entries take."""
        super().__init__(**options)
        self._store = ReleaseStore(url)

    def load(self) -> DeployedRelease:
        """Fetch all; a ``UserError`` where nothing is deployed."""
        from mlflow import MlflowClient
        from mlflow.artifacts import download_artifacts

        name, client = self._contract.name, MlflowClient()
        with self._engine.connect() as connection:
            deployment = deployments.require_deployment(connection, name)
        release = self._store.fetch(name, deployment.release)
        run = client.get_run(release.manifest.run_id)
        # By the run: its version may be deleted, or its number that of another model by now.
        logged = client.get_logged_model(run.data.tags[CANDIDATE_TAG].removeprefix("models:/"))
        uris = [
            f"{run.info.artifact_uri}/snapshot/snapshot.parquet",
            f"{logged.artifact_location}/extra_files/validation.parquet",
        ]
        with TemporaryDirectory() as folder:
            files = [download_artifacts(uri, dst_path=folder) for uri in uris]
            return DeployedRelease(release, *map(pd.read_parquet, files))


class PredictionLogDataset(ContractDataset):
    """The predictions and labels, which are counted in the database."""

    def load(self) -> RunQuery:
        """Give the function that runs statements; nothing is read yet."""
        return self._query

    def _query(self, parameters: dict[str, Any], *statements: str) -> list[Sequence[Any]]:
        # All statements see the same rows, whatever is written meanwhile.
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._engine.connect().execution_options(**options) as connection:
            return [connection.execute(text(sql), parameters).all() for sql in statements]


class MonitoringRunDataset(ContractDataset):
    """The runs of monitoring."""

    _recorded: MonitoringRun | None = None

    def save(self, data: MonitoringRun) -> None:
        """Record a run with its metrics in one transaction."""
        with self._engine.begin() as connection:
            added = _append(connection, monitoring_runs, data)
            run_id = {"run_id": added["id"]}
            metrics = [run_id | _row(monitoring_metrics, metric) for metric in data.metrics]
            connection.execute(insert(monitoring_metrics), metrics)
        self._recorded = replace(data, **added)

    def load(self) -> MonitoringRun:
        """The run that this session has recorded, else the newest, without its metrics."""
        if self._recorded is not None:
            return self._recorded
        with self._engine.connect() as connection:
            newest = _newest(connection, monitoring_runs, MonitoringRun, self._contract)
        if newest is None:
            raise UserError("Nothing was monitored yet: kedro run --pipeline monitoring")
        return newest


class MonitoringReportDataset(ContractDataset):
    """The newest report, as a file and for the API."""

    def __init__(self, filepath: str, **options: Any) -> None:
        """Name the HTML file."""
        super().__init__(**options)
        self._filepath = Path(filepath)

    def save(self, data: str) -> None:
        """Write the file and the row."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        self._filepath.write_text(data, encoding="utf-8")
        with self._engine.begin() as connection:
            connection.execute(text(_REPORT), {"contract": self._contract.name, "html": data})
        _LOGGER.info("report: %s", self._filepath)


class MonitoringHistoryDataset(ContractDataset):
    """What monitoring has found of the newest release since a retraining was last acted on."""

    def load(self) -> History:
        """Read no more of it than a decision may need."""
        parameters = {"contract": self._contract.name, "most": MAX_WINDOWS}
        history = {}
        with self._engine.connect() as connection:
            for kind, statement in _WINDOWS_BY_KIND.items():
                rows = connection.execute(text(statement), parameters)
                history[kind] = [WindowFinding(*row) for row in rows]
        return history


class RetrainingDecisionDataset(ContractDataset):
    """The decisions on retraining."""

    def save(self, data: RetrainingDecision) -> None:
        """Append one."""
        with self._engine.begin() as connection:
            added = _append(connection, retraining_decisions, data)
        level = logging.INFO if data.decision == "none" else logging.WARNING
        _LOGGER.log(level, "decision=%d %s: %s", added["id"], data.decision, " ".join(data.reasons))

    def load(self) -> RetrainingDecision | None:
        """The newest; None before any."""
        with self._engine.connect() as connection:
            return _newest(connection, retraining_decisions, RetrainingDecision, self._contract)


class OpenDecisionDataset(ContractDataset):
    """The decision that this MLflow run acts on: taken up when first read, concluded by saving."""

    def load(self) -> RetrainingDecision:
        """Give the decision that this run has taken up, else take up the newest."""
        import mlflow

        run_id, name = mlflow.active_run().info.run_id, self._contract.name
        table = retraining_decisions
        with self._engine.begin() as connection:
            newest = partial(_newest, connection, table, RetrainingDecision, self._contract)
            lock(connection, f"retraining of {name}")
            if own := newest(table.c.run_id == run_id):
                return own
            # While a run goes on, hooks.ProjectHooks holds its lock, and nobody takes up a later
            # decision. So it is the run of the last one; those of thousands may have failed.
            if last := newest(table.c.run_id.is_not(None), table.c.acted_at.is_(None)):
                held = try_lock(self._url, f"run {last.run_id}")
                if held is None:
                    raise NothingToDoError(f"Another run retrains {name} already.")
                held.close()
            decision = require_open(newest(), deployments.current(connection, name))
            taken_up = update(table).where(table.c.id == decision.id).values(run_id=run_id)
            connection.execute(taken_up)
            return replace(decision, run_id=run_id)

    def save(self, data: RetrainingDecision) -> None:
        """Record how the retraining ended, unless the decision was concluded meanwhile."""
        table = retraining_decisions
        statement = update(table).where(table.c.id == data.id, table.c.acted_at.is_(None))
        with self._engine.begin() as connection:
            result = connection.execute(statement.values(acted_at=func.now(), outcome=data.outcome))
        if result.rowcount:
            _LOGGER.info("decision=%d concluded: %s", data.id, data.outcome)
        else:
            _LOGGER.warning("decision=%d was concluded by another run meanwhile", data.id)


def _newest(
    connection: Connection, table: Table, record: type[T], contract: Contract, *conditions: Any
) -> T | None:
    query = select(table).where(table.c.contract == contract.name, *conditions)
    newest = connection.execute(query.order_by(table.c.id.desc()).limit(1)).mappings()
    return next((record(**row) for row in newest), None)


def _row(table: Table, record: Any) -> dict[str, Any]:
    """The columns of a record that a table has."""
    names = table.c.keys()
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


def _append(connection: Connection, table: Table, record: Any) -> RowMapping:
    """Append a record; gives what the database adds to it."""
    values = {name: value for name, value in _row(table, record).items() if value is not None}
    statement = insert(table).values(values).returning(table.c.id, table.c.created_at)
    return connection.execute(statement).mappings().one()
