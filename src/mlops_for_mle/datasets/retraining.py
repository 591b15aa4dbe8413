"""What the decision on retraining reads and writes, and the rows that a retraining learns from."""

import logging
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset
from sqlalchemy import Connection, text

from mlops_for_mle import deployments, retraining_log
from mlops_for_mle.column_values import read_rows
from mlops_for_mle.database import reachable
from mlops_for_mle.datasets.base import ContractTables, ReadOnlyDataset
from mlops_for_mle.errors import PrerequisiteError
from mlops_for_mle.records import Window
from mlops_for_mle.records_retraining import MonitoringHistory, RetrainingDecision

_LABELLED = text(
    """
    SELECT predictions.features, feedback.target
    FROM predictions JOIN feedback USING (prediction_id)
    WHERE predictions.contract = :contract AND feedback.superseded_at IS NULL
      AND predictions.created_at >= coalesce(:since, '-infinity'::timestamptz)
    ORDER BY predictions.created_at DESC, predictions.prediction_id DESC
    LIMIT :row_limit
    """
)

_LOGGER = logging.getLogger(__name__)


class MonitoringHistoryDataset(ContractTables, ReadOnlyDataset[MonitoringHistory]):
    """What monitoring has found of the deployed release and no retraining has answered."""

    def load(self) -> MonitoringHistory:
        """Read the history.

        Raises:
            PrerequisiteError: Nothing is deployed.
        """
        name = self._contract.name
        with reachable(self._url) as engine, engine.connect() as connection:
            served = deployments.current(connection, name)
            if served is None:
                raise PrerequisiteError(f"{name} was never deployed: run `kedro run` first.")
            return retraining_log.unanswered(connection, name, served.release)


class RetrainingDecisionDataset(
    ContractTables, AbstractDataset[RetrainingDecision, RetrainingDecision]
):
    """Records decisions on retraining."""

    def save(self, data: RetrainingDecision) -> None:
        """Append the decision."""
        with reachable(self._url) as engine, engine.begin() as connection:
            number = retraining_log.append(connection, data)
        level = logging.INFO if data.decision == "none" else logging.WARNING
        _LOGGER.log(level, "decision=%d %s: %s", number, data.decision, " ".join(data.reasons))

    def load(self) -> RetrainingDecision:
        """The newest decision.

        Raises:
            PrerequisiteError: There is none.
        """
        with reachable(self._url) as engine, engine.connect() as connection:
            found = retraining_log.newest(connection, self._contract.name)
        if found is None:
            raise PrerequisiteError(
                "Nothing was monitored yet: run `kedro run --pipeline monitoring` first."
            )
        return found


class LabelledPredictionsDataset(ContractTables, ReadOnlyDataset[Window]):
    """Answered predictions whose true label is known, as rows to learn from."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        row_limit: int,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the newest ``row_limit`` of those that speak for the newest decision."""
        super().__init__(contract, credentials, metadata)
        self._row_limit = row_limit

    def load(self) -> Window:
        """The rows in the order in which they were answered; maybe none."""
        name = self._contract.name
        with reachable(self._url) as engine, engine.connect() as connection:
            decision = retraining_log.newest(connection, name)
            since = decision.evidence_from if decision is not None else None
            rows = self._read(connection, since)
        told = f" since {since:%Y-%m-%d %H:%M:%S %Z}" if since is not None else ""
        return Window(f"labelled predictions{told}", rows)

    def _read(self, connection: Connection, since: Any) -> pd.DataFrame:
        found = connection.execute(
            _LABELLED,
            {"contract": self._contract.name, "since": since, "row_limit": self._row_limit},
        ).all()
        target = self._contract.target
        as_target = target.values.get if target.task == "classification" else float
        rows = [{**row.features, target.column: as_target(row.target)} for row in reversed(found)]
        frame = pd.DataFrame(rows, columns=list(self._contract.columns), dtype=object)
        return read_rows(frame, self._contract)
