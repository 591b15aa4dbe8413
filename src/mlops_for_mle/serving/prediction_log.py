"""The prediction log: appended to a file before an answer leaves, shipped to the database after.

A request is one line: a checksum and what COPY takes, arrays where it has many rows. What was
appended survives the end of the process, because the kernel has it. The file that a process writes
to is locked by it, and the kernel drops the lock of a process that has ended, however it ended. So
whatever is not locked is shipped by a thread of whichever process comes first: a batch of lines is
copied into a temporary table and inserted where ``predictions`` does not have it yet; then its file
is removed. A line that cannot be read, or that the table refuses, is set aside.
"""

import fcntl
import io
import logging
import os
import re
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.context import REQUEST_ID
from mlops_for_mle.serving.database import reason_of, transaction
from mlops_for_mle.serving.documents import joined
from mlops_for_mle.serving.errors import not_ready
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from mlops_for_mle.serving.metrics import Metrics
    from mlops_for_mle.serving.predict import Inference

LOG_FULL = "The prediction log takes no more: it is full, or cannot be written"
# What is committed may be removed from the spool, so it has to be on the database's disk.
_STAGE = """
SELECT set_config('synchronous_commit', 'on', true)
WHERE current_setting('synchronous_commit') = 'off';
CREATE TEMPORARY TABLE IF NOT EXISTS staged (
    checksum text, contract text, release text, model_version integer, prediction_id text,
    microseconds bigint, latency_ms real, request_id text, predictions float8[], labels jsonb,
    form text, row_count integer, features jsonb, probabilities float8[]
) ON COMMIT DELETE ROWS
"""
# One row stands as it is; of several, each array gives one element a row, and the probabilities
# come class by class.
_INSERT = """
INSERT INTO predictions (prediction_id, prediction, features, probabilities, label, created_at,
    contract, release, model_version, latency_ms, request_id)
SELECT row.*, labels ->> prediction::numeric::text,
    timestamptz 'epoch' + microseconds * interval '1 microsecond',
    contract, release, model_version, latency_ms, request_id
FROM staged, LATERAL (
    SELECT prediction_id, predictions[1] AS prediction, features, probabilities
    WHERE form = 'ONE'
    UNION ALL
    SELECT
        CASE row_count WHEN 1 THEN prediction_id ELSE prediction_id || '-' || (row_number - 1) END,
        prediction, row_features, row_probabilities::float8[]
    FROM ROWS FROM (
        unnest(predictions),
        unnest(CASE form
            WHEN 'LIST' THEN ARRAY(SELECT jsonb_array_elements(features))
            WHEN 'COLUMNS' THEN ARRAY(
                SELECT jsonb_object_agg(name, value)
                FROM jsonb_each(features -> 'columns') AS f (name, list),
                    jsonb_array_elements(list) WITH ORDINALITY AS e (value, number)
                GROUP BY number ORDER BY number)
        END),
        unnest(ARRAY(
            SELECT array_agg(value ORDER BY number)::text
            FROM unnest(probabilities) WITH ORDINALITY AS p (value, number)
            GROUP BY number % row_count
            ORDER BY min(number)))
    ) WITH ORDINALITY AS r (prediction, row_features, row_probabilities, row_number)
    WHERE form <> 'ONE'
) AS row
ON CONFLICT (prediction_id) DO NOTHING
"""

_SEGMENT_BYTES, _BATCH_BYTES = 8 * 1024 * 1024, 256 * 1024
# Long enough for the largest request.
_STATEMENT_SECONDS = 240.0
_REST_TO_WORK, _MAX_WORK_SECONDS, _QUIET_SECONDS = 3.0, 0.25, 0.1
# Errors of the data, by their SQLSTATE; others are the database's, and so is a missing partition.
_DATA_FAULTS = re.compile("22|23(?!514)|54")
_LINE = re.compile(rb"[0-9a-f]{8}\t[a-z]")

logger = logging.getLogger(__name__)


class PredictionLog:
    """Keeps every answered prediction until the table ``predictions`` has it, exactly once.

    ``stored_bytes`` is what all processes have in the folder, as far as this one knows;
    ``answered_at`` is when something was kept last, by the monotonic clock.
    """

    def __init__(self, settings: ServingSettings, metrics: "Metrics") -> None:
        self.root, self.max_bytes = settings.spool, settings.spool_max_bytes
        self.stored_bytes, self.answered_at = 0, 0.0
        self._ship_seconds = settings.ship_seconds
        self._counts, self._stopping = metrics.spool, threading.Event()
        # For the segment that is written to, since several threads answer.
        self._lock = threading.RLock()
        self._segment: tuple[int, Path] | None = None
        self._size = 0
        self._has_failed = False
        self._threads: list[threading.Thread] = []

    @property
    def refuses(self) -> bool:
        """Whether predictions are refused at the moment."""
        return self._has_failed or self._is_full

    @property
    def _is_full(self) -> bool:
        return self.stored_bytes + 4096 > self.max_bytes

    def oldest_at(self) -> float:
        """Since when the oldest prediction may wait, in seconds since 1970; now if none does."""
        begun = [int(path.name.partition("-")[0]) / 1e9 for path in self.root.glob("*.log")]
        return min([*begun, time.time()])

    def start(self) -> None:
        """Begin to keep and to ship; raises OSError where the spool folder cannot be made."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._has_failed = True
        self._measure_folder()
        if self.refuses:
            logger.error("Predictions are refused, %s is full or cannot be written", self.root)
        tasks = (self._ship_all, self._sync_every_second)
        self._threads = [threading.Thread(target=task, daemon=True) for task in tasks]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Ship what is spooled within the time; the rest stays for the next process."""
        deadline = time.monotonic() + timeout_seconds
        self._stopping.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            logger.warning("The prediction log was not shipped in time; it stays in the spool")

    def keep(self, inferences: Sequence["Inference"]) -> None:
        """Spool the predictions of some requests, all or none; ProblemError 503 where it cannot."""
        try:
            self._append([piece for inference in inferences for piece in self._line(inference)])
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                logger.error("Predictions are refused, they cannot be spooled: %s", error)  # noqa: TRY400  (the reason says it all)
            raise not_ready(LOG_FULL) from error
        self.answered_at, self._has_failed = time.monotonic(), False

    def end_segment(self) -> None:
        """Let what was written be shipped."""
        with self._lock:
            segment, self._segment, self._size = self._segment, None, 0
        if segment is not None:
            os.close(segment[0])

    def _measure_folder(self) -> None:
        """See how much all processes have stored, and whether the disk takes something again."""
        with self._lock:
            stored = 0
            for path in self.root.glob("*.log"):
                with suppress(FileNotFoundError):
                    stored += path.stat().st_size
            # In one step, since other threads read it meanwhile.
            self.stored_bytes = stored
        if self._has_failed and not self._is_full:
            # Where the disk is still full, what is shipped next may free it.
            with suppress(OSError), TemporaryFile(dir=self.root) as probe:
                probe.write(bytes(8192))
                probe.flush()
                self._has_failed = False

    def _append(self, pieces: Sequence[bytes]) -> None:
        """Write the pieces of whole lines: all of them or none."""
        size = sum(map(len, pieces))
        if size < _BATCH_BYTES:
            pieces = [b"".join(pieces)]
        with self._lock:
            if self.stored_bytes + size > self.max_bytes:
                raise OSError(
                    f"no more than {self.max_bytes} bytes may wait (MLOPS_SPOOL_MAX_BYTES)"
                )
            if self._segment is None:
                self._segment = self._begin_segment()
            descriptor, _ = self._segment
            try:
                for piece in pieces:
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
            except OSError:
                # Take back a part of a line; where even that fails, nothing may follow it.
                try:
                    os.ftruncate(descriptor, self._size)
                except OSError:
                    self.end_segment()
                raise
            self._size += size
            self.stored_bytes += size
            if self._size >= _SEGMENT_BYTES:
                self.end_segment()

    def _begin_segment(self) -> tuple[int, Path]:
        while True:
            path = self.root / f"{time.time_ns():020d}-{os.getpid()}-{uuid4().hex[:8]}.log"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            descriptor = os.open(path, flags, 0o600)
            # Another process may take the file for a dead one's before it is locked.
            if _try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                return descriptor, path
            os.close(descriptor)

    def _sync_every_second(self) -> None:
        while not self._stopping.wait(1.0):
            for path in self.root.glob("*.log"):
                try:
                    # What cannot be opened is told when it is shipped, once.
                    with suppress(FileNotFoundError, PermissionError), path.open("rb") as segment:
                        os.fsync(segment.fileno())
                except OSError as error:
                    logger.warning("%s cannot be synchronised with the disk: %s", path, error)

    @staticmethod
    def _line(inference: "Inference") -> list[bytes]:
        """A line, in pieces, so that what is long in it is not copied."""
        rows, request = inference.rows, inference.request
        head, labels = inference.served.logged
        request_id = request.headers.get(REQUEST_ID)
        if request_id != request.request_id.encode():
            request_id = rb"\N"
        value, *probabilities = inference.parts[0].texts
        values, by_class = [value], [b",".join(probabilities)]
        if rows.count > 1:
            texts, *lists = zip(*(part.texts for part in inference.parts), strict=True)
            values, by_class = list(joined(texts)), list(joined(chain(*lists)))
        microseconds, milliseconds = inference.answered_at // 1000, inference.latency_seconds * 1000
        facts = (head, request.prediction_id.encode(), microseconds, milliseconds, request_id)
        pieces = [
            b"%b\t%b\t%d\t%.6g\t%b\t{" % facts,
            *values,
            b"}\t%b\t%b\t%d\t" % (labels, rows.form, rows.count),
            _copy_escaped(rows.text),
            *([b"\t{", *by_class, b"}\n"] if probabilities else [b"\t\\N\n"]),
        ]
        if rows.count == 1:
            pieces = [b"".join(pieces)]
        checksum = 0
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
        return [b"%08x\t" % checksum, *pieces]

    def _ship_all(self) -> None:
        """Ship what there is now and then, and once more after the log was stopped."""
        pause, is_last, is_reported = 0.0, False, False
        while not is_last:
            is_last, pause = self._stopping.wait(pause), self._ship_seconds
            obstacle = self._ship_once()
            if obstacle and not is_reported:
                message = "The prediction log cannot be shipped, it waits in the spool: %s"
                logger.warning(message, obstacle)
            elif is_reported and not obstacle:
                logger.info("The prediction log is shipped to the database again")
            is_reported = obstacle is not None

    def _ship_once(self) -> str | None:
        """Ship what there is; gives the reason why something had to stay."""
        obstacle = None
        try:
            self._measure_folder()
            for path in sorted(self.root.glob("*.log")):
                # In its turn: while the database takes nothing, each round would leave one more.
                own = self._segment
                if own is not None and own[1] == path:
                    self.end_segment()
                try:
                    self._ship(path)
                except OSError as error:
                    # It may be another user's, which does not hold up the others.
                    obstacle = str(error)
        except Exception as error:  # noqa: BLE001  (the thread outlives every failure)
            obstacle = reason_of(error)
        return obstacle

    def _ship(self, segment: Path) -> None:
        """Write a segment and remove it, unless another process writes to it or ships it."""
        with suppress(FileNotFoundError), segment.open("rb") as file:
            if not _try_lock(file.fileno()):
                return
            while lines := file.readlines(_BATCH_BYTES):
                started = time.perf_counter()
                self._insert([payload for payload in map(self._payload, lines) if payload])
                self._throttle(time.perf_counter() - started)
            segment.unlink(missing_ok=True)

    def _throttle(self, worked_seconds: float) -> None:
        """Let requests come first: they need the interpreter's lock, and the same processors.

        A wait for the database counts as little work, and a spool that fills up ends all rests.
        """
        is_busy = time.monotonic() - self.answered_at < _QUIET_SECONDS
        if is_busy and self.stored_bytes * 2 < self.max_bytes:
            self._stopping.wait(min(worked_seconds, _MAX_WORK_SECONDS) * _REST_TO_WORK)

    def _payload(self, line: bytes) -> bytes:
        """The undamaged part of a line, which is what COPY takes; empty where there is none.

        A flipped bit may have joined it with the line before.
        """
        for match in _LINE.finditer(line):
            start = match.start()
            if line[start : start + 8] == b"%08x" % zlib.crc32(memoryview(line)[start + 9 :]):
                if start:
                    self._set_aside(line[:start], "it is damaged")
                return line[start:]
        if line.endswith(b"\n"):
            self._set_aside(line, "it is damaged")
        else:
            # Its writer was killed: such a request was never answered.
            self._counts["torn"].inc()
        return b""

    def _insert(self, lines: Sequence[bytes]) -> None:
        """Write lines in one transaction; where one is refused, all others are still written."""
        import psycopg2

        if not lines:
            return
        try:
            with transaction("shipper", _STATEMENT_SECONDS) as connection:
                connection.exec_driver_sql(_STAGE)
                cursor: Any = connection.connection.cursor()
                content = io.BytesIO(b"".join(lines))
                cursor.copy_expert("COPY staged FROM STDIN", content, size=1 << 16)
                cursor.execute(_INSERT)
                connection.commit()
            # Those that the table did not have yet.
            self._counts["shipped"].inc(cursor.rowcount)
        except psycopg2.Error as error:
            if not _DATA_FAULTS.match(error.pgcode or ""):
                raise
            middle = len(lines) // 2
            if middle:
                self._insert(lines[:middle])
                self._insert(lines[middle:])
            elif (normalised := _normalised(lines[0])) != lines[0]:
                self._insert([normalised])
            else:
                self._set_aside(lines[0], str(error.diag.message_primary))

    def _set_aside(self, line: bytes, reason: str) -> None:
        path = self.root / "damaged"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(line.rstrip(b"\n") + b"\n")
        self._counts["damaged"].inc()
        logger.error("A line of the prediction log is kept in %s: %s", path, reason)


def logged_facts(manifest: Manifest) -> tuple[bytes, bytes]:
    """What the lines of a release have in common: their beginning, and the labels of classes."""
    facts = (manifest.contract.name, manifest.release, str(manifest.version))
    labels = {str(code): label for code, label in manifest.contract.target.labels.items()}
    head = b"\t".join(_copy_escaped(fact.encode()) for fact in facts)
    return head, _copy_escaped(msgspec.json.encode(labels))


def _try_lock(descriptor: int) -> bool:
    """Lock an open file; False where another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _normalised(line: bytes) -> bytes:
    """A line with its numbers as they were read: jsonb refuses 1e-99999, which is 0."""
    *facts, features, probabilities = line.split(b"\t")[1:]
    # Takes back what `_copy_escaped` did.
    text = features.decode("unicode_escape").encode("latin-1")
    try:
        document = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return line
    features = _copy_escaped(msgspec.json.encode(document))
    payload = b"\t".join([*facts, features, probabilities])
    return b"%08x\t%b" % (zlib.crc32(payload), payload)


def _copy_escaped(text: bytes) -> bytes:
    """A text as COPY takes it."""
    text = text.replace(b"\\", rb"\\").replace(b"\n", rb"\n")
    return text.replace(b"\r", rb"\r").replace(b"\t", rb"\t")
