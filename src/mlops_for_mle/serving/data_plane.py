"""Rows in, predictions out: the one way to an answer, whatever protocol asked for it."""

import time
from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from mlops_for_mle.predictor import Predictions, Rows
from mlops_for_mle.serving.http.problems import FieldError, not_ready, unprocessable
from mlops_for_mle.serving.http.request_gate import timed_out
from mlops_for_mle.serving.identifiers import new_prediction_id
from mlops_for_mle.serving.recording import (
    AnsweredPredictions,
    PredictionRecorder,
    ServingMetrics,
)
from mlops_for_mle.serving.releases.served_release import ReleaseSlot, ServedRelease


class Question(NamedTuple):
    """Rows that wait for their answers.

    Attributes:
        served: The release that answers, as ``DataPlane.release`` gave it.
        rows: Shape (rows, columns), checked and encoded by the release's reader.
        started: ``time.perf_counter()`` at the arrival of the request.
        request_id: The client's name for the request.
        given: The rows' plain values, where the matrix does not hold them.
    """

    served: ServedRelease
    rows: Rows
    started: float
    request_id: str | None = None
    given: Sequence[Sequence[Any]] | None = None


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

    def predict(self, question: Question) -> AnsweredPredictions:
        """Answer one question and record the answer.

        Raises:
            ProblemError: What ``answer`` and ``keep`` raise.
        """
        answered = self.answer([question])
        self.keep(answered)
        return answered[0]

    def answer(self, questions: Sequence[Question]) -> list[AnsweredPredictions]:
        """Answer questions to one release together, which costs little more than one of them.

        Raises:
            ProblemError: 422, the model has no finite answer for some of the rows; 500, it answers
                with a class that the contract does not have; 504, it took too long.
        """
        served = questions[0].served
        if len(questions) == 1:
            rows = questions[0].rows
        else:
            rows = np.concatenate([one.rows for one in questions])
        predictions = served.predictor.predict(rows)
        if not _are_finite(predictions):
            raise unprocessable(
                [FieldError("", "the model has no finite answer", None, "values it was trained on")]
            )
        served.class_check.check(predictions)
        now, answered_at = time.perf_counter(), time.time_ns()
        found = []
        start = 0
        for one in questions:
            latency = now - one.started
            if latency > self._timeout_seconds:
                raise timed_out(self._timeout_seconds)
            end = start + len(one.rows)
            found.append(
                AnsweredPredictions(
                    prediction_id=new_prediction_id(),
                    answered_at=answered_at,
                    manifest=served.manifest,
                    rows=one.rows,
                    predictions=predictions.part(start, end),
                    latency_seconds=latency,
                    request_id=one.request_id,
                    given=one.given,
                )
            )
            start = end
        return found

    def keep(self, answered: Sequence[AnsweredPredictions]) -> None:
        """Record answers, all or none of them; they may leave afterwards.

        Raises:
            ProblemError: 503, the recorder can keep no more.
        """
        self._recorder.record(*answered)
        self._metrics.answered(*answered)


def _are_finite(predictions: Predictions) -> bool:
    """Whether a model has answered with numbers; a class alone always is one."""
    probabilities = predictions.probabilities
    numbers = predictions.values if probabilities is None else probabilities
    if numbers.dtype.kind == "i":
        return True
    if len(numbers) == 1:
        return all(map(isfinite, numbers.ravel().tolist()))
    # What is not finite makes the sum so too; the sum alone may also be too large.
    return isfinite(numbers.sum()) or bool(np.isfinite(numbers).all())
