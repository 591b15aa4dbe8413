"""The prediction log: appended to a file before an answer leaves, shipped to the database after.

A request is one line: a checksum and what COPY takes, arrays where it has many rows. What was
appended survives the end of the process, because the kernel has it. The file that a process writes
to is locked by it, and the kernel drops the lock of a process that has ended, however it ended. So
whatever is not locked is shipped by a thread of whichever process comes first, see ``shipping``.
"""

import logging
import os
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.context import REQUEST_ID
from mlops_for_mle.serving.errors import not_ready
from mlops_for_mle.serving.metrics import Metrics
from mlops_for_mle.serving.settings import ServingSettings
from mlops_for_mle.serving.shipping import Shipper, is_locked

if TYPE_CHECKING:
    from mlops_for_mle.serving.predict import Answered

_SEGMENT_BYTES = 8 * 1024 * 1024

logger = logging.getLogger(__name__)


class PredictionLog:
    """Keeps every answered prediction until the table ``predictions`` has it, exactly once.

    Attributes:
        root: The spool folder.
        max_bytes: The most that it may hold.
        stored_bytes: What all processes have in it, as far as this one knows.
        counts: What became of it, see ``metrics``.
        answered_at: When something was kept last, by the monotonic clock.
        stopping: Set when the process ends.
    """

    def __init__(self, settings: ServingSettings, metrics: Metrics) -> None:
        self.root, self.max_bytes = settings.spool, settings.spool_max_bytes
        self.stored_bytes, self.counts = 0, metrics.spool
        self.answered_at, self.stopping = 0.0, threading.Event()
        self._ship_seconds, self._drops = settings.ship_seconds, settings.spool_when_full == "drop"
        # For the segment that is written to, since several threads answer.
        self._lock = threading.RLock()
        self._descriptor: int | None = None
        self._size = 0
        self._has_failed = self._has_complained = False
        self._heads: dict[str, tuple[bytes, bytes]] = {}
        self._threads: list[threading.Thread] = []

    @property
    def refuses(self) -> bool:
        """Whether predictions are refused at the moment."""
        is_full = self._has_failed or self.stored_bytes + 4096 > self.max_bytes
        return is_full and not self._drops

    def oldest_at(self) -> float | None:
        """Since when the oldest prediction may wait, in seconds since 1970; None for none."""
        names = [path.name for path in self.root.glob("*.log")]
        return int(min(names).partition("-")[0]) / 1e9 if names else None

    def start(self) -> None:
        """Begin to keep and to ship.

        Raises:
            OSError: The spool folder cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._has_failed = True
        self.look_around()
        tasks = (Shipper(self, self._ship_seconds).run, self._sync_every_second)
        self._threads = [threading.Thread(target=one, daemon=True) for one in tasks]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Ship what is spooled within the time; the rest stays for the next process."""
        deadline = time.monotonic() + timeout_seconds
        self.stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            logger.warning("The prediction log was not shipped in time; it stays in the spool")

    def keep(self, answered: Sequence["Answered"]) -> None:
        """Spool the predictions of some requests, all or none; they are safe afterwards.

        Raises:
            ProblemError: 503, the spool is full and the policy is to refuse.
        """
        try:
            self._append(b"".join(map(self._line, answered)))
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                done = "answered without being kept" if self._drops else "refused"
                logger.error("Predictions are %s, since they cannot be spooled: %s", done, error)  # noqa: TRY400  (the reason says it all)
            if self._drops:
                self.counts["dropped"].inc(sum(one.question.rows.count for one in answered))
                return
            # Of several each is tried again alone.
            self.counts["refused"].inc(len(answered) == 1)
            reason = "Predictions cannot be recorded at the moment: the prediction log is full, "
            raise not_ready(f"{reason}or cannot be written", 5) from error
        self.answered_at, self._has_complained = time.monotonic(), False

    def end_segment(self) -> None:
        """Let what was written be shipped."""
        with self._lock:
            descriptor, self._descriptor, self._size = self._descriptor, None, 0
        if descriptor is not None:
            os.close(descriptor)

    def look_around(self) -> None:
        """See how much all have stored, and whether a disk that failed takes something again."""
        with self._lock:
            stored = 0
            for path in self.root.glob("*.log"):
                with suppress(FileNotFoundError):
                    stored += path.stat().st_size
            # At once, since others look at it meanwhile.
            self.stored_bytes = stored
        if self._has_failed:
            probe = self.root / f"probe-{uuid4().hex}"
            try:
                probe.write_bytes(bytes(8192))
                self._has_failed = False
            finally:
                probe.unlink(missing_ok=True)

    def _append(self, lines: bytes) -> None:
        """Write whole lines: all of them or none."""
        with self._lock:
            if self.stored_bytes + len(lines) > self.max_bytes:
                raise OSError(
                    f"{self.stored_bytes} of at most {self.max_bytes} bytes wait for the database "
                    "(MLOPS_SPOOL_MAX_BYTES)"
                )
            try:
                if self._descriptor is None:
                    self._descriptor = self._begin_segment()
                rest = memoryview(lines)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                self._has_failed = True
                # Take back a part of a line; where even that fails, nothing may follow it.
                try:
                    os.ftruncate(self._descriptor or -1, self._size)
                except OSError:
                    self.end_segment()
                raise
            self._has_failed = False
            self._size += len(lines)
            self.stored_bytes += len(lines)
            if self._size >= _SEGMENT_BYTES:
                self.end_segment()

    def _begin_segment(self) -> int:
        while True:
            name = f"{time.time_ns():020d}-{os.getpid()}-{uuid4().hex[:8]}.log"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            descriptor = os.open(self.root / name, flags, 0o600)
            # Another process may take the file for a dead one's before it is locked.
            if is_locked(descriptor) and os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)

    def _sync_every_second(self) -> None:
        while not self.stopping.wait(1.0):
            try:
                for path in self.root.glob("*.log"):
                    with suppress(FileNotFoundError), path.open("rb") as segment:
                        os.fsync(segment.fileno())
            except OSError:
                logger.exception("The prediction log cannot be synchronised with the disk")

    def _line(self, answered: "Answered") -> bytes:
        question = answered.question
        rows, request, manifest = question.rows, question.request, question.served.manifest
        head, labels = self._heads.get(manifest.release) or self._remember(manifest)
        request_id = request.facts.request_id.encode()
        values, *chances = answered.texts
        facts = b"%b\t%b\t%d\t%.6g\t%b\t{%b}\t%b\t%b\t%d\t" % (
            head,
            answered.prediction_id.encode(),
            answered.answered_at // 1000,
            answered.latency_seconds * 1000,
            request_id if request.headers.get(REQUEST_ID) == request_id else rb"\N",
            values,
            labels,
            rows.form,
            rows.count,
        )
        features = _copied(bytes(rows.text))
        probabilities = b"\t{%b}\n" % b",".join(chances) if chances else b"\t\\N\n"
        # Long texts are copied once only.
        checksum = zlib.crc32(probabilities, zlib.crc32(features, zlib.crc32(facts)))
        return b"%08x\t%b%b%b" % (checksum, facts, features, probabilities)

    def _remember(self, manifest: Manifest) -> tuple[bytes, bytes]:
        """What the lines of a release have in common; only this is kept of it."""
        facts = (manifest.contract.name, manifest.release, str(manifest.version))
        labels = {str(code): label for code, label in manifest.contract.target.labels.items()}
        head = b"\t".join(_copied(one.encode()) for one in facts)
        found = self._heads[manifest.release] = (head, _copied(msgspec.json.encode(labels)))
        return found


def _copied(text: bytes) -> bytes:
    """A text as COPY takes it."""
    for raw, written in ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r"), (b"\t", rb"\t")):
        text = text.replace(raw, written)
    return text
