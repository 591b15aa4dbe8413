"""What an answered request leaves behind: the prediction log and the metrics plug in here."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from mlops_for_mle.predictor import Predictions, Rows
from mlops_for_mle.release import Manifest


class AnsweredPredictions(NamedTuple):
    """The rows of one request with their answers.

    Attributes:
        prediction_id: The id of the request's predictions. With one row it is that row's id;
            row ``i`` of several has the id ``<prediction_id>-<i>``, counted from 0.
        answered_at: Nanoseconds since 1970, UTC.
        manifest: The release that answered.
        rows: Shape (rows, columns), float64, as the contract's encoding gives them.
        predictions: One answer a row.
        latency_seconds: From the arrival of the request to its prediction.
        request_id: The client's ``X-Request-ID``, if any.
        given: The rows' plain values, in the order of the contract's features; None where the
            matrix holds them.
    """

    prediction_id: str
    answered_at: int
    manifest: Manifest
    rows: Rows
    predictions: Predictions
    latency_seconds: float
    request_id: str | None
    given: Sequence[Sequence[Any]] | None = None


class PredictionRecorder(Protocol):
    """Keeps answered predictions; called before the answer leaves, from several threads.

    ``record`` returns when the predictions would survive the end of this process. It raises
    ``ProblemError`` (503) when it can keep no more, and then the request is not answered.
    """

    def start(self) -> None:
        """Begin, in the process that answers."""

    def record(self, *answered: AnsweredPredictions) -> None:
        """Keep the predictions of some requests of one release: all of them or none."""

    def stop(self, timeout_seconds: float) -> None:
        """Write out what is kept, within the time."""


class ServingMetrics(Protocol):
    """Counts what happens; called on the hot path, so each call takes microseconds."""

    def answered(self, *answered: AnsweredPredictions) -> None:
        """Rows of some requests were predicted by one release."""

    def requested(self, route: str, status: int, seconds: float) -> None:
        """A request was answered, with whatever status."""

    def release_loaded(self, manifest: Manifest) -> None:
        """A release took over."""

    def release_failed(self, release: str) -> None:
        """A deployed release could not be loaded."""


class NoRecorder:
    """Keeps nothing."""

    def start(self) -> None:
        """Do nothing."""

    def record(self, *answered: AnsweredPredictions) -> None:
        """Do nothing."""

    def stop(self, timeout_seconds: float) -> None:
        """Do nothing."""


class NoMetrics:
    """Counts nothing."""

    def answered(self, *answered: AnsweredPredictions) -> None:
        """Do nothing."""

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def release_loaded(self, manifest: Manifest) -> None:
        """Do nothing."""

    def release_failed(self, release: str) -> None:
        """Do nothing."""
