"""Simulated traffic, as a server would log it, and looks at it without a Kedro session.

Thousands of rows take a second, because no server stands in between: the answers come from the
release itself, and are written as the table of predictions has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import insert

from mlops_for_mle.contract.columns import encode_rows, plain_rows
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.database.tables import feedback, predictions
from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun, judge
from mlops_for_mle.pipelines.monitoring.counting import PredictionLog, Window, count_window
from mlops_for_mle.pipelines.monitoring.datasets import PredictionLogDataset
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import Deployed, Reference, describe_reference
from mlops_for_mle.pipelines.monitoring.report import write_report
from mlops_for_mle.releases.deployments import current
from mlops_for_mle.releases.manifest import Release, SnapshotFacts
from mlops_for_mle.releases.predictor import Predictor
from mlops_for_mle.releases.store import ReleaseStore
from tests.releases import IRIS_CONTRACT, iris_rows


@dataclass(frozen=True)
class Served:
    """The rows as they were asked with their true targets, the answers, and who has a label."""

    rows: pd.DataFrame
    predictions: np.ndarray
    is_labelled: np.ndarray
    identifiers: list[str]


def trained_on(release: Release, snapshot: pd.DataFrame) -> Release:
    """The release as if its model had been trained on these rows."""
    facts = SnapshotFacts(source="test", sha256="", watermark=None, row_count=len(snapshot))
    metrics = {"validation_accuracy": 0.95, "validation_rmse": 5.5} | release.manifest.metrics
    return renamed(release, snapshot=facts, metrics=metrics)


def renamed(given: Release, **facts: Any) -> Release:
    """The release with other facts in its manifest."""
    return Release.checked(given.manifest.model_copy(update=facts), given.model)


def deployed_release(database_url: str, store: ReleaseStore, contract: str) -> Release:
    """The release that servers would follow now."""
    with engine_for(database_url).connect() as connection:
        row = current(connection, contract)
    assert row is not None
    return store.fetch(contract, row.release)


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
        noise: float = 0.0,
        relabel: Mapping[int, int] | None = None,
        flip_labels: float = 0.0,
        labelled: float = 1.0,
    ) -> Served:
        """Answer rows and write them, with their labels, to the database.

        Features are moved by ``shift`` and by normal ``noise``, in standard deviations of the
        source. By ``relabel`` classes have become others, all of them: the world has changed in a
        way that can be learned. The others are fractions: of labels that are replaced by any other
        class, and of rows whose label arrives.
        """
        manifest = self.release.manifest
        contract, target = manifest.contract, manifest.contract.target
        drawn = self._random.choice(len(self._source), count)
        rows = self._source.iloc[drawn].reset_index(drop=True)
        self._change(rows, shift or {}, noise)
        rows[target.column] = self._labels(rows[target.column], relabel or {}, flip_labels)
        answers = Predictor(self.release.model, contract).predict(encode_rows(rows, contract))
        is_labelled = self._random.random(count) < labelled
        written = []
        for index, row in enumerate(plain_rows(rows, contract)):
            sure = None if answers.probabilities is None else answers.probabilities[index].tolist()
            value, self._count = answers.values[index].item(), self._count + 1
            written.append(
                {
                    "prediction_id": f"{int(self.now.timestamp()):012}-{self._seed}-{self._count}",
                    "created_at": self.now,
                    "prediction": value,
                    "model_version": manifest.version,
                    "latency_ms": 0.5,
                    "contract": contract.name,
                    "release": manifest.release,
                    "label": target.labels.get(value),
                    "features": dict(zip(contract.features, row, strict=True)),
                    "probabilities": sure,
                }
            )
            self.now += timedelta(seconds=1)
        with self._engine.begin() as connection:
            connection.execute(insert(predictions), written)
        identifiers = [one["prediction_id"] for one in written]
        served = Served(rows, answers.values, is_labelled, identifiers)
        self.tell(served, is_labelled)
        return served

    def tell(self, served: Served, which: np.ndarray) -> None:
        """Write the true labels of some of the rows."""
        contract = self.release.manifest.contract
        # The database has classes as the model answers them.
        codes, labels = contract.target.codes, contract.target.labels
        truth = [codes.get(one, one) for one in served.rows[contract.target.column]]
        told = [
            {"prediction_id": one, "contract": contract.name, "target": value}
            | {"revision": 1, "label": labels.get(value)}
            for one, value, is_told in zip(served.identifiers, truth, which, strict=True)
            if is_told
        ]
        if told:
            with self._engine.begin() as connection:
                connection.execute(insert(feedback), told)

    def _change(self, rows: pd.DataFrame, shift: Mapping[str, float], noise: float) -> None:
        for name, feature in self.release.manifest.contract.features.items():
            if feature.is_number:
                deviation = float(self._source[name].std(ddof=0))
                moved = rows[name].to_numpy(np.float64) + shift.get(name, 0.0) * deviation
                moved += self._random.normal(0, noise * deviation, len(rows))
                # A server refuses what the contract does not allow.
                moved = np.clip(moved, feature.minimum, feature.maximum)
                rows[name] = np.round(moved) if feature.type == "integer" else moved

    def _labels(
        self, target: "pd.Series[Any]", relabel: Mapping[int, int], flipped: float
    ) -> np.ndarray:
        found = np.array([relabel.get(value, value) for value in target.tolist()])
        if flipped:
            classes = np.array([*self.release.manifest.contract.target.codes])
            steps = self._random.integers(1, len(classes), len(found))
            others = classes[(np.searchsorted(classes, found) + steps) % len(classes)]
            found = np.where(self._random.random(len(found)) < flipped, others, found)
        return found


class Look(NamedTuple):
    """One look at a release: what was counted, how it was judged, and the report of it."""

    reference: Reference
    windows: dict[str, Window]
    run: MonitoringRun
    report: str

    @property
    def window(self) -> Window:
        """All of the window."""
        return self.windows[""]


def prediction_log(database_url: str) -> PredictionLog:
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
    deployed = Deployed(trained_on(release, snapshot), snapshot, validated)
    reference = describe_reference(deployed, monitoring)
    windows = count_window(reference, prediction_log(database_url), monitoring)
    run = judge(reference, windows, monitoring)
    return Look(reference, windows, run, write_report(run, reference, windows, monitoring))
