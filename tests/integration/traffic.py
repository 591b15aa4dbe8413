"""Simulated traffic: a release answers rows, and true labels follow, as a server would log them.

Thousands of rows take a second, because no server stands in between: the answers come from the
release itself, and the rows are written by the recorder's own code.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import numpy as np
import pandas as pd
from psycopg2 import extensions
from sklearn.datasets import load_iris

from mlops_for_mle import deployments
from mlops_for_mle.database import engine_for
from mlops_for_mle.predictor import Predictions, Predictor
from mlops_for_mle.release import Release, ReleaseStore
from mlops_for_mle.serving.prediction_log.frames import describe_release
from mlops_for_mle.serving.prediction_log.lines import COLUMNS, COPY_FORMAT, LineWriter
from mlops_for_mle.serving.recording import AnsweredPredictions

_COPY = f"COPY predictions ({', '.join(COLUMNS)}) FROM STDIN WITH {COPY_FORMAT}"
_COPY_FEEDBACK = (
    "COPY feedback (prediction_id, revision, contract, target, label) FROM STDIN WITH (FORMAT csv)"
)


@dataclass(frozen=True)
class Served:
    """What was asked and answered.

    Attributes:
        rows: The features as they were asked, and the target as its label told it.
        predictions: The class value or number that was answered, a row.
        prediction_ids: Their ids in the log.
        is_labelled: Which rows have a label.
    """

    rows: pd.DataFrame
    predictions: np.ndarray
    prediction_ids: list[str]
    is_labelled: np.ndarray

    @property
    def labelled_rows(self) -> pd.DataFrame:
        """The rows whose labels have arrived, ready to be ingested as observations."""
        return self.rows[self.is_labelled].reset_index(drop=True)


def deploy(database_url: str, store: ReleaseStore, release: Release, run_id: str = "") -> None:
    """Publish a release and append it to the audit trail, as the pipeline deployment does."""
    store.publish(release)
    manifest = release.manifest
    with engine_for(database_url).begin() as connection:
        deployments.append(
            connection,
            contract=manifest.contract.name,
            event="deploy",
            release=manifest.release,
            model_version=manifest.model.version,
            run_id=run_id or manifest.model.run_id,
            reason="test",
            actor="test",
        )


def deployed_release(database_url: str, store: ReleaseStore, contract: str) -> Release:
    """The release that servers would follow now."""
    with engine_for(database_url).connect() as connection:
        row = deployments.current(connection, contract)
    assert row is not None
    return store.fetch(contract, row.release)


def iris_source() -> pd.DataFrame:
    """The rows of iris under the contract's names."""
    rows = load_iris(as_frame=True).frame
    rows.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width", "target"]
    return rows


class Traffic:
    """Clients of one release: draws rows of a source with replacement and asks for predictions.

    The clock goes on by a fixed step from row to row and from call to call, so a release that
    follows another in the same simulation is given the same ``Traffic`` by ``switch``.
    """

    def __init__(
        self,
        database_url: str,
        release: Release,
        seed: int,
        source: pd.DataFrame | None = None,
        start: datetime | None = None,
        step: timedelta = timedelta(seconds=1),
    ) -> None:
        """Say whom to ask, and with which rows.

        Args:
            database_url: The database that keeps predictions and labels.
            release: Answers.
            seed: Fixes every draw.
            source: Features and target under the contract's names; iris if it is not given.
            start: When the first row is answered; a day ago if it is not given.
            step: The time from one row to the next.
        """
        self._url = database_url
        self._random = np.random.default_rng(seed)
        self._source = iris_source() if source is None else source
        self._clock = start or datetime.now(UTC) - timedelta(days=1)
        self._step = step
        self._count = 0
        self.switch(release)

    def switch(self, release: Release) -> None:
        """Let another release answer from now on."""
        self.release = release
        self._predictor = Predictor(release)
        self._contract = release.manifest.contract

    @property
    def now(self) -> datetime:
        """When the next row will be answered."""
        return self._clock

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

        Args:
            count: How many rows.
            shift: By how many of the source's standard deviations a feature is moved.
            noise: Normal noise on every feature, in standard deviations of the source.
            relabel: True classes that have become others, all of them: the world has changed in a
                way that can be learned.
            flip_labels: The fraction of labels that are replaced by any other class.
            labelled: The fraction of rows whose label arrives.
        """
        rows = self._source.iloc[self._random.integers(0, len(self._source), count)]
        rows = self._changed(rows.reset_index(drop=True), shift or {}, noise)
        target = self._labels(rows[self._contract.target.column].to_numpy(), relabel, flip_labels)
        rows[self._contract.target.column] = target
        is_labelled = self._random.random(count) < labelled
        matrix = rows.loc[:, list(self._contract.feature_names)].to_numpy(dtype=np.float64)
        predictions = self._predictor.predict(matrix)
        identifiers = self._write(matrix, predictions.values, predictions.probabilities)
        self._write_labels(
            [one for one, is_told in zip(identifiers, is_labelled, strict=True) if is_told],
            target[is_labelled],
        )
        return Served(rows, predictions.values, identifiers, is_labelled)

    def _changed(
        self, rows: pd.DataFrame, shift: Mapping[str, float], noise: float
    ) -> pd.DataFrame:
        for name, feature in self._contract.features.items():
            deviation = float(self._source[name].std(ddof=0))
            moved = rows[name].to_numpy(dtype=np.float64) + shift.get(name, 0.0) * deviation
            if noise:
                moved += self._random.normal(0, noise * deviation, len(rows))
            # A server refuses what the contract does not allow.
            moved = np.clip(moved, feature.minimum, feature.maximum)
            rows[name] = np.round(moved) if feature.type == "integer" else moved
        return rows

    def _labels(
        self, target: np.ndarray, relabel: Mapping[int, int] | None, flip_labels: float
    ) -> np.ndarray:
        found = np.array([(relabel or {}).get(value, value) for value in target.tolist()])
        if flip_labels:
            classes = np.array(self._contract.target.class_values)
            steps = self._random.integers(1, len(classes), len(found))
            others = classes[(np.searchsorted(classes, found) + steps) % len(classes)]
            found = np.where(self._random.random(len(found)) < flip_labels, others, found)
        return found

    def _write(
        self, matrix: np.ndarray, values: np.ndarray, probabilities: np.ndarray | None
    ) -> list[str]:
        manifest = self.release.manifest
        writer = LineWriter(describe_release(manifest))
        identifiers, lines = [], []
        for index in range(len(matrix)):
            milliseconds = int(self._clock.timestamp() * 1000)
            self._count += 1
            identifiers.append(_identifier(milliseconds, self._count))
            answered = AnsweredPredictions(
                prediction_id=identifiers[-1],
                answered_at=milliseconds * 1_000_000,
                manifest=manifest,
                rows=matrix[index : index + 1],
                predictions=Predictions(
                    values[index : index + 1],
                    None if probabilities is None else probabilities[index : index + 1],
                ),
                latency_seconds=0.0005,
                request_id=None,
            )
            lines.append(writer.line(answered))
            self._clock += self._step
        self._copy(_COPY, b"\n".join(lines) + b"\n")
        return identifiers

    def _write_labels(self, identifiers: list[str], target: np.ndarray) -> None:
        labels = self._contract.target.labels
        content = "".join(
            f"{identifier},1,{self._contract.name},{value},{labels.get(value, '')}\n"
            for identifier, value in zip(identifiers, target.tolist(), strict=True)
        )
        self._copy(_COPY_FEEDBACK, content.encode())

    def _copy(self, statement: str, content: bytes) -> None:
        with engine_for(self._url).connect() as borrowed:
            connection = cast("extensions.connection", borrowed.connection.driver_connection)
            with connection.cursor() as cursor:
                cursor.copy_expert(statement, io.BytesIO(content))
            connection.commit()


def _identifier(milliseconds: int, count: int) -> str:
    """A version 7 UUID with a counter where others have random bits."""
    bits = milliseconds << 80 | 7 << 76 | 2 << 62 | count
    return str(UUID(int=bits))
