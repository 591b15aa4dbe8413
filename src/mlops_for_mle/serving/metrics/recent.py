"""The latest predictions of a process, for the page; the prediction log keeps all of them."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from mlops_for_mle.predictor import Predictions
from mlops_for_mle.serving.recording import AnsweredPredictions

SHOWN_PREDICTIONS = 50
INTERVAL_SECONDS = 5
INTERVALS = 60

_INTERVAL_NANOSECONDS = INTERVAL_SECONDS * 1_000_000_000
_ROWS_OF_A_REQUEST = 5


class RecentPrediction(msgspec.Struct):
    """One predicted row.

    Attributes:
        prediction_id: Its id in the prediction log.
        answered_at: Seconds since 1970, UTC.
        value: The predicted class code or number.
        label: The name of the class; None for a regression.
        probability: Of the predicted class, where the model has probabilities.
        features: What was asked, by name.
        model_version: Which version answered.
    """

    prediction_id: str
    answered_at: float
    value: float
    label: str | None
    probability: float | None
    features: dict[str, Any]
    model_version: int


class Interval(msgspec.Struct):
    """The predictions of five seconds.

    Attributes:
        start: Seconds since 1970, UTC.
        counts: How many by class value; a regression has the one key ``""``.
        total: The sum of a regression's answers.
        minimum: The least of them.
        maximum: The largest of them.
    """

    start: int
    counts: dict[str, int]
    total: float = 0.0
    minimum: float | None = None
    maximum: float | None = None


class RecentView(msgspec.Struct):
    """What a process has predicted lately: the newest rows first, the oldest interval first."""

    predictions: list[RecentPrediction]
    intervals: list[Interval]


class RecentPredictions:
    """Collects them; the caller takes care that one thread at a time does so."""

    def __init__(self) -> None:
        """Start empty."""
        self._answered: deque[AnsweredPredictions] = deque(maxlen=SHOWN_PREDICTIONS)
        self._intervals: deque[Interval] = deque(maxlen=INTERVALS)
        self._next_interval = 0

    def add(self, answered: AnsweredPredictions, counts: Mapping[int | None, int]) -> None:
        """Take note of the rows of a request."""
        if answered.answered_at >= self._next_interval:
            number = answered.answered_at // _INTERVAL_NANOSECONDS
            self._next_interval = (number + 1) * _INTERVAL_NANOSECONDS
            self._intervals.append(Interval(number * INTERVAL_SECONDS, {}))
        interval = self._intervals[-1]
        for value, count in counts.items():
            key = "" if value is None else str(value)
            interval.counts[key] = interval.counts.get(key, 0) + count
            if value is None:
                values = answered.predictions.values
                low, high = float(np.min(values)), float(np.max(values))
                interval.total += float(np.sum(values))
                interval.minimum = low if interval.minimum is None else min(interval.minimum, low)
                interval.maximum = high if interval.maximum is None else max(interval.maximum, high)
        self._answered.append(answered if len(answered.rows) == 1 else _first_rows(answered))

    def view(self) -> RecentView:
        """A copy."""
        predictions: list[RecentPrediction] = []
        for answered in reversed(self._answered):
            predictions.extend(_rows(answered))
        return RecentView(
            predictions[:SHOWN_PREDICTIONS],
            [msgspec.structs.replace(one, counts=dict(one.counts)) for one in self._intervals],
        )


def merge(views: Iterable[RecentView]) -> RecentView:
    """What all processes together have predicted lately."""
    predictions: list[RecentPrediction] = []
    intervals: dict[int, Interval] = {}
    for view in views:
        predictions.extend(view.predictions)
        for one in view.intervals:
            known = intervals.get(one.start)
            intervals[one.start] = one if known is None else _joined(known, one)
    predictions.sort(key=lambda one: one.answered_at, reverse=True)
    newest = sorted(intervals.values(), key=lambda one: one.start)[-INTERVALS:]
    return RecentView(predictions[:SHOWN_PREDICTIONS], newest)


def _joined(one: Interval, other: Interval) -> Interval:
    counts = dict(one.counts)
    for key, count in other.counts.items():
        counts[key] = counts.get(key, 0) + count
    low = [value for value in (one.minimum, other.minimum) if value is not None]
    high = [value for value in (one.maximum, other.maximum) if value is not None]
    return Interval(
        one.start, counts, one.total + other.total, min(low, default=None), max(high, default=None)
    )


def _first_rows(answered: AnsweredPredictions) -> AnsweredPredictions:
    """A few rows of many, as copies, so that a large request does not stay in memory."""
    predictions, count = answered.predictions, _ROWS_OF_A_REQUEST
    probabilities = predictions.probabilities
    return answered._replace(
        rows=answered.rows[:count].copy(),
        predictions=Predictions(
            predictions.values[:count].copy(),
            probabilities[:count].copy() if probabilities is not None else None,
        ),
        prediction_id=answered.prediction_id + "-",
        given=answered.given[:count] if answered.given is not None else None,
    )


def _rows(answered: AnsweredPredictions) -> Iterable[RecentPrediction]:
    manifest = answered.manifest
    names, labels = manifest.contract.feature_names, manifest.contract.target.labels
    probabilities = answered.predictions.probabilities
    rows = answered.rows.tolist() if answered.given is None else answered.given
    for index, row in enumerate(rows):
        value = answered.predictions.values.item(index)
        one = answered.prediction_id
        yield RecentPrediction(
            prediction_id=f"{one}{index}" if one.endswith("-") else one,
            answered_at=answered.answered_at / 1e9,
            value=float(value),
            label=labels.get(int(value)) if labels else None,
            probability=None if probabilities is None else float(probabilities[index].max()),
            features=dict(zip(names, row, strict=True)),
            model_version=manifest.model.version,
        )
