"""Rows in, predictions out: the one way to an answer, whatever protocol asked for it."""

import time
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from mlops_for_mle.predictor import Rows
from mlops_for_mle.serving.identifiers import new_prediction_id
from mlops_for_mle.serving.problems import FieldError, not_ready, unprocessable
from mlops_for_mle.serving.recording import (
    AnsweredPredictions,
    PredictionRecorder,
    ServingMetrics,
)
from mlops_for_mle.serving.request_gate import timed_out
from mlops_for_mle.serving.served_release import ReleaseSlot, ServedRelease


class DataPlane:
    """Answers rows by the release in service and records what it answered."""

    def __init__(
        self,
        slot: ReleaseSlot,
        recorder: PredictionRecorder,
        metrics: ServingMetrics,
        timeout_seconds: float,
    ) -> None:
        """Join the release in service to what is told of its answers.

        Args:
            slot: Holds the release in service.
            recorder: Keeps every answer.
            metrics: Counts every answer.
            timeout_seconds: What took longer than this is not recorded, since nobody waits for it.
        """
        self._slot = slot
        self._recorder = recorder
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds

    def release(self) -> ServedRelease:
        """The release in service; take it once a request.

        Raises:
            ProblemError: 503, none is loaded yet.
        """
        served = self._slot.current
        if served is None:
            raise not_ready(self._slot.obstacle())
        return served

    def predict(
        self,
        served: ServedRelease,
        rows: Rows,
        started: float,
        request_id: str | None = None,
        given: Sequence[Sequence[Any]] | None = None,
    ) -> AnsweredPredictions:
        """Answer rows and record the answers.

        Args:
            served: The release, as ``release`` gave it.
            rows: Shape (rows, columns), checked and encoded by the release's reader.
            started: ``time.perf_counter()`` at the arrival of the request.
            request_id: The client's name for the request.
            given: The rows' plain values, where the matrix does not hold them.

        Raises:
            ProblemError: 422, the model has no finite answer for these rows; 500, it answers with
                a class that the contract does not have; 503, the recorder can keep no more; 504,
                it took too long.
        """
        predictions = served.predictor.predict(rows)
        probabilities = predictions.probabilities
        numbers = predictions.values if probabilities is None else probabilities
        # What is not finite makes the sum so too; the sum alone may also be too large.
        if not isfinite(numbers.sum()) and not np.isfinite(numbers).all():
            raise unprocessable(
                [FieldError("", "the model has no finite answer", None, "values it was trained on")]
            )
        served.class_check.check(predictions)
        latency = time.perf_counter() - started
        if latency > self._timeout_seconds:
            raise timed_out(self._timeout_seconds)
        answered = AnsweredPredictions(
            prediction_id=new_prediction_id(),
            answered_at=time.time_ns(),
            manifest=served.manifest,
            rows=rows,
            predictions=predictions,
            latency_seconds=latency,
            request_id=request_id,
            given=given,
        )
        self._recorder.record(answered)
        self._metrics.answered(answered)
        return answered
