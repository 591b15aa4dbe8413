"""Simulated traffic, as a server would log it, and looks at it without a Kedro session."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import insert

from mlops_for_mle.contract.columns import encode_rows, plain_rows
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.tables import feedback, predictions
from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun, judge
from mlops_for_mle.pipelines.monitoring.counting import RunQuery, Window, count_window
from mlops_for_mle.pipelines.monitoring.datasets import PredictionLogDataset
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import (
    DeployedRelease,
    Reference,
    describe_reference,
)
from mlops_for_mle.pipelines.monitoring.report import write_report
from mlops_for_mle.releases.deployments import require_deployment
from mlops_for_mle.releases.manifest import Release, SnapshotFacts
from mlops_for_mle.releases.predictor import Predictor
from mlops_for_mle.releases.store import ReleaseStore
from tests.candidates import RegistryProject
from tests.releases import IRIS_CONTRACT, changed, iris_rows


class Served(NamedTuple):
    """The rows by their prediction's id, with true targets, the answers, and who has a label."""

    rows: pd.DataFrame
    predictions: np.ndarray
    is_labelled: np.ndarray


def trained_on(release: Release, snapshot: pd.DataFrame) -> Release:
    """The release as if its model had been trained on these rows."""
    facts = SnapshotFacts(source="test", sha256="", watermark=None, row_count=len(snapshot))
    metrics = {"validation_accuracy": 0.95, "validation_rmse": 5.5} | release.manifest.metrics
    return changed(release, snapshot=facts, metrics=metrics)


def deployed_release(project: RegistryProject) -> Release:
    """The release that servers of a project would follow now."""
    with engine_for(project.url).connect() as connection:
        served = require_deployment(connection, project.contract.name)
    return ReleaseStore(str(project.folder / "data/releases")).fetch("iris", served.release)


class Traffic:
    """Clients of one release: draws rows of a source with replacement and asks for predictions.

    The clock goes on by a second from row to row and from call to call; a release that follows
    another in the same simulation is set as ``release``.
    """

    def __init__(
        self,
        database_url: str,
        release: Release,
        seed: int,
        source: pd.DataFrame | None = None,
        start: datetime | None = None,
    ) -> None:
        """Draw from iris if there is no other source, from a day ago if there is no other start."""
        self._engine = engine_for(database_url)
        self._seed, self._random = seed, np.random.default_rng(seed)
        self._source = iris_rows() if source is None else source
        self._count = 0
        self.now = start or datetime.now(UTC) - timedelta(days=1)
        self.release = release

    def serve(
        self,
        count: int,
        *,
        shift: Mapping[str, float] | None = None,
        truth: "Callable[[pd.Series[Any]], Any] | None" = None,
        labelled: float = 1.0,
    ) -> Served:
        """Answer rows and write them to the database, with the labels of a share of them.

        Features are moved by ``shift`` standard deviations of the source. By ``truth`` other
        targets have become the true ones: the world has changed.
        """
        manifest, contract = self.release.manifest, self.release.manifest.contract
        rows = self._source.sample(count, replace=True, random_state=self._random)
        rows.index = pd.Index(f"{self._seed}-{self._count + n:06}" for n in range(count))
        for name, feature in contract.features.items():
            if feature.is_number:
                deviation = float(self._source[name].std(ddof=0))
                moved = rows[name].to_numpy(np.float64) + (shift or {}).get(name, 0.0) * deviation
                # A server refuses what the contract does not allow.
                moved = np.clip(moved, feature.minimum, feature.maximum)
                rows[name] = np.round(moved) if feature.type == "integer" else moved
        if truth:
            rows[contract.target.column] = truth(rows[contract.target.column])
        answers = Predictor(self.release.model, contract).predict(encode_rows(rows, contract))
        probabilities = (
            [None] * count if answers.probabilities is None else answers.probabilities.tolist()
        )
        written = [
            {
                "prediction_id": rows.index[number],
                "created_at": self.now + timedelta(seconds=number),
                "prediction": value,
                "model_version": manifest.version,
                "latency_ms": 0.5,
                "contract": contract.name,
                "release": manifest.release,
                "label": contract.target.labels.get(value),
                "features": dict(zip(contract.features, row, strict=True)),
                "probabilities": probabilities[number],
            }
            for number, (value, row) in enumerate(
                zip(answers.values.tolist(), plain_rows(rows, contract), strict=True)
            )
        ]
        self._count += count
        self.now += timedelta(seconds=count)
        with self._engine.begin() as connection:
            connection.execute(insert(predictions), written)
        is_labelled = self._random.random(count) < labelled
        served = Served(rows, answers.values, is_labelled)
        self.tell(served, is_labelled)
        return served

    def tell(self, served: Served, which: np.ndarray) -> None:
        """Write the true labels of some of the rows."""
        contract = self.release.manifest.contract
        # The database has classes as the model answers them.
        codes, labels = contract.target.codes, contract.target.labels
        truth = served.rows.loc[which, contract.target.column].map(lambda one: codes.get(one, one))
        told = [
            {"prediction_id": one, "contract": contract.name, "target": value}
            | {"revision": 1, "label": labels.get(value)}
            for one, value in truth.items()
        ]
        if told:
            with self._engine.begin() as connection:
                connection.execute(insert(feedback), told)


class Look(NamedTuple):
    """One look at a release: what was counted, how it was judged, and the report of it."""

    reference: Reference
    windows: dict[str, Window]
    run: MonitoringRun
    report: str


def prediction_log(database_url: str) -> RunQuery:
    """The log of a database; whose it is, every question says."""
    return PredictionLogDataset(IRIS_CONTRACT.model_dump(mode="json"), {"con": database_url}).load()


def look(
    database_url: str,
    release: Release,
    snapshot: pd.DataFrame,
    validation: pd.DataFrame | None = None,
    **options: object,
) -> Look:
    """Compare what a release was asked and has answered with the rows it was trained on."""
    monitoring = MonitoringOptions.model_validate(options)
    validated = snapshot if validation is None else validation
    deployed = DeployedRelease(trained_on(release, snapshot), snapshot, validated)
    reference = describe_reference(deployed, monitoring)
    windows = count_window(reference, prediction_log(database_url))
    run = judge(reference, windows)
    return Look(reference, windows, run, write_report(run, reference, windows))
