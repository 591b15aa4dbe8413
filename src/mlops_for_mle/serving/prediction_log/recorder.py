"""The prediction log: spooled before the answer leaves, shipped to the database in batches."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_for_mle.errors import UserError
from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.http.problems import not_ready
from mlops_for_mle.serving.prediction_log.frames import (
    FrameError,
    LineFrame,
    describe_predictions,
    describe_release,
    framed,
)
from mlops_for_mle.serving.prediction_log.lines import LineWriter
from mlops_for_mle.serving.prediction_log.shipper import PredictionShipper
from mlops_for_mle.serving.prediction_log.shipping_pace import ShippingPace
from mlops_for_mle.serving.prediction_log.spool import PredictionSpool, SpoolFullError
from mlops_for_mle.serving.recording import AnsweredPredictions
from mlops_for_mle.serving.settings import ServingSettings

REJECTS_FILE = "rejected.jsonl"

_FIRST_RETRY_SECONDS = 0.25
_ADOPTION_SECONDS = 2.0
_SYNC_SECONDS = 1.0
_COMPLAINT_SECONDS = 60.0
_RETRY_AFTER_SECONDS = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """What the prediction log of one process has done; for metrics and for people.

    Attributes:
        stored_bytes: The size of the spool, of all processes as far as this one knows.
        max_bytes: Its bound.
        recorded: Rows that this process has spooled.
        shipped: Rows that this process has shipped, taken-over ones included.
        refused: Requests that were answered with 503 because the spool was full.
        dropped: Rows that were answered but not kept because the spool was full.
        database_error: Why the database takes no rows; None when it does.
    """

    stored_bytes: int
    max_bytes: int
    recorded: int
    shipped: int
    refused: int
    dropped: int
    database_error: str | None


class _KnownRelease:
    """A release that has answered; holds its manifest, so that its identity stays its own."""

    __slots__ = ("description", "manifest", "writer")

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        release = describe_release(manifest)
        self.description = framed(release)
        self.writer = LineWriter(release)


class SpoolingRecorder:
    """Keeps every answered prediction until the table ``predictions`` has it, exactly once."""

    def __init__(self, settings: ServingSettings) -> None:
        """Prepare; nothing is written before ``start``."""
        self._settings = settings
        self._root = settings.spool
        self._spool = PredictionSpool(self._root, settings.spool_max_bytes, settings.spool_sync)
        self._pace = ShippingPace(self._is_half_full)
        self._shipper = PredictionShipper(
            self._root / REJECTS_FILE, self._count_shipped, self._pace.rest_after
        )
        # By identity, since hashing a whole manifest takes longer than a prediction.
        self._known: dict[int, _KnownRelease] = {}
        self._counters = threading.Lock()
        self._recorded = self._shipped = self._refused = self._dropped = 0
        self._complained_at = -_COMPLAINT_SECONDS
        self._failures = 0
        self._database_error: str | None = None
        self._adopt_at = 0.0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to keep and to ship, unless that was done.

        Raises:
            UserError: The spool folder cannot be written.
        """
        if self._threads:
            return
        try:
            self._spool.open()
        except OSError as error:
            raise UserError(
                f"MLOPS_SPOOL: the folder {self._root} cannot be written: {error.strerror}"
            ) from error
        self._run_thread("prediction-shipper", self._ship_until_stopped)
        if self._settings.spool_sync == "every_second":
            self._run_thread("prediction-sync", self._sync_until_stopped)

    def record(self, *answered: AnsweredPredictions) -> None:
        """Spool the predictions of some requests of one release, all or none.

        Raises:
            ProblemError: 503, the spool is full and the policy is to refuse.
        """
        manifest = answered[0].manifest
        known = self._known.get(id(manifest)) or self._remember(manifest)
        frames = [
            framed(
                LineFrame(known.writer.line(one))
                if len(one.rows) == 1
                else describe_predictions(one)
            )
            for one in answered
        ]
        try:
            self._spool.append(manifest.release, known.description, b"".join(frames))
        except SpoolFullError as error:
            self._not_kept(answered, str(error))
        else:
            self._pace.answered(answered[0].answered_at)
            with self._counters:
                self._recorded += _count_rows(answered)

    def status(self) -> RecorderStatus:
        """What was done until now."""
        with self._counters:
            return RecorderStatus(
                stored_bytes=self._spool.stored_bytes,
                max_bytes=self._settings.spool_max_bytes,
                recorded=self._recorded,
                shipped=self._shipped,
                refused=self._refused,
                dropped=self._dropped,
                database_error=self._database_error,
            )

    def stop(self, timeout_seconds: float) -> None:
        """Ship what is spooled within the time; the rest stays for the next process."""
        if not self._threads:
            return
        deadline = time.monotonic() + timeout_seconds
        self._stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            # The end of the process releases the folders.
            logger.warning("The prediction log was not shipped in time; it stays in the spool")
            return
        self._spool.close()

    def _remember(self, manifest: Manifest) -> "_KnownRelease":
        return self._known.setdefault(id(manifest), _KnownRelease(manifest))

    def _run_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _not_kept(self, answered: Sequence[AnsweredPredictions], reason: str) -> None:
        is_refused = self._settings.spool_when_full == "refuse"
        with self._counters:
            if is_refused:
                self._refused += len(answered)
            else:
                self._dropped += _count_rows(answered)
            now = time.monotonic()
            is_silent = now - self._complained_at < _COMPLAINT_SECONDS
            if not is_silent:
                self._complained_at = now
        if not is_silent:
            logger.error(
                "Predictions are %s: %s",
                "refused" if is_refused else "answered without being kept",
                reason,
            )
        if is_refused:
            raise not_ready(
                "Predictions cannot be recorded at the moment: the prediction log is full, or "
                "cannot be written",
                _RETRY_AFTER_SECONDS,
            )

    def _ship_until_stopped(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._try_to_ship()
        # What came in last; one attempt, since the next process ships what is left.
        self._try_to_ship()

    def _try_to_ship(self) -> float:
        """Ship all there is; gives the seconds until the next attempt."""
        try:
            self._ship()
        except Exception as error:  # noqa: BLE001  (the thread outlives every failure)
            return self._shipping_failed(error)
        if self._failures:
            logger.info("The prediction log is shipped to the database again")
        self._failures = 0
        self._database_error = None
        return self._settings.ship_seconds

    def _ship(self) -> None:
        if time.monotonic() >= self._adopt_at:
            found = self._spool.adopt()
            if found:
                logger.info("Took over the prediction logs of %d ended processes", found)
            self._adopt_at = time.monotonic() + _ADOPTION_SECONDS
        self._spool.count_others()
        if not self._spool.has_waiting():
            return
        self._shipper.check()
        # Sealed only now: while the database is away, segments grow to their full size.
        self._spool.seal()
        for segment in self._spool.own_segments():
            self._ship_segment(segment, is_own=True)
        for segment in self._spool.adopted_segments():
            self._ship_segment(segment, is_own=False)

    def _ship_segment(self, segment: Path, is_own: bool) -> None:
        failure: FrameError | None = None
        try:
            self._shipper.ship(segment)
        except FrameError as error:
            failure = error
        if failure is not None and (is_own or not failure.is_torn):
            kept = self._spool.set_aside(segment)
            logger.error("%s; what comes before was shipped, the file is kept: %s", failure, kept)
            return
        if failure is not None:
            # Such a request was never answered.
            logger.info("%s; its writer was killed", failure)
        self._spool.discard(segment)

    def _is_half_full(self) -> bool:
        return self._spool.stored_bytes * 2 > self._settings.spool_max_bytes

    def _count_shipped(self, rows: int) -> None:
        with self._counters:
            self._shipped += rows

    def _shipping_failed(self, error: Exception) -> float:
        self._failures += 1
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self._database_error = reason
        if self._failures == 1:
            unexpected = None if isinstance(error, UserError) else error
            logger.warning(
                "The prediction log cannot be shipped, it waits in the spool: %s",
                reason,
                exc_info=unexpected,
            )
        longest = self._settings.retry_seconds
        pause = float(min(longest, _FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 16)))
        return pause * random.uniform(0.9, 1.1)  # noqa: S311  (spreads workers, guards nothing)

    def _sync_until_stopped(self) -> None:
        while True:
            is_last = self._stopping.wait(_SYNC_SECONDS)
            try:
                self._spool.sync()
            except OSError:
                logger.exception("The prediction log cannot be synchronised with the disk")
            if is_last:
                return


def _count_rows(answered: Sequence[AnsweredPredictions]) -> int:
    return sum(len(one.rows) for one in answered)
