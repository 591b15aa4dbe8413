"""The prediction log: appended to a file before an answer leaves, shipped to the database after.

A request is one line: a checksum and what COPY takes, arrays where it has many rows. What was
appended survives the end of the process, because the kernel has it. The file that a process writes
to is locked by it, and the kernel drops the lock of a process that has ended, however it ended. So
whatever is not locked is copied into a temporary table, inserted where ``predictions`` does not
have it yet, and removed, by a thread of whichever process comes first.
"""

import fcntl
import io
import json
import logging
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from uuid import uuid4

import msgspec

from mlops_for_mle.errors import UserError
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.codec import Form
from mlops_for_mle.serving.context import REQUEST_ID
from mlops_for_mle.serving.database import own_connection, reason_of
from mlops_for_mle.serving.errors import not_ready
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  (a class of C code)

    from mlops_for_mle.serving.predict import Answered

_STAGE = """
CREATE TEMPORARY TABLE staged (
    contract text, release text, model_version integer, prediction_id text, microseconds bigint,
    latency_ms real, request_id text, predictions float8[], label text, labels jsonb, form text,
    features jsonb, probabilities text
) ON COMMIT DELETE ROWS
"""
# One row stands as it is; of several, each array gives one element a row.
_INSERT = """
INSERT INTO predictions (prediction_id, prediction, label, features, probabilities, created_at,
    contract, release, model_version, latency_ms, request_id)
SELECT row.*, timestamptz 'epoch' + microseconds * interval '1 microsecond',
    contract, release, model_version, latency_ms, request_id
FROM staged, LATERAL (
    SELECT prediction_id, predictions[1], label, features, probabilities::float8[]
    WHERE form = 'ONE'
    UNION ALL
    SELECT
        CASE WHEN cardinality(predictions) = 1 THEN prediction_id
            ELSE prediction_id || '-' || (place - 1) END,
        prediction, labels ->> prediction::bigint::text, one, chances::float8[]
    FROM ROWS FROM (
        unnest(predictions),
        unnest(CASE form
            WHEN 'LIST' THEN ARRAY(SELECT jsonb_array_elements(features))
            WHEN 'COLUMNS' THEN ARRAY(
                SELECT jsonb_object_agg(name, value)
                FROM jsonb_each(features) AS f (name, list),
                    jsonb_array_elements(list) WITH ORDINALITY AS e (value, number)
                GROUP BY number ORDER BY number)
        END),
        unnest(ARRAY(
            SELECT array_agg(value::float8 ORDER BY class)::text
            FROM jsonb_array_elements(probabilities::jsonb) WITH ORDINALITY AS p (list, class),
                jsonb_array_elements_text(list) WITH ORDINALITY AS e (value, number)
            GROUP BY number ORDER BY number))
    ) WITH ORDINALITY AS r (prediction, one, chances, place)
    WHERE form <> 'ONE'
) AS row
ON CONFLICT (prediction_id) DO NOTHING
"""

_SEGMENT_BYTES = 8 * 1024 * 1024
_BATCH_BYTES = 1024 * 1024
_JOINED_BYTES = 64 * 1024
_LINES_A_PIECE = 200
_STATEMENT_SECONDS, _BYTES_A_SECOND = 30, 100_000
_LONGEST_RETRY_SECONDS = 4.0
_REST_TO_WORK, _LONGEST_WORK_SECONDS, _QUIET_SECONDS = 3.0, 0.25, 0.1
_COMPLAINT_SECONDS = 60.0
# Errors of the data, by the classes of their SQLSTATE; all others are the database's.
_DATA_FAULTS = ("22", "23", "54")
_LINE = re.compile(rb"[0-9a-f]{8}\t[a-z]")

# macOS has no fdatasync.
_sync_file: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What the prediction log of this process has done.

    Attributes:
        recorded: Rows that were spooled.
        shipped: Rows that were written to the database, those of ended processes included.
        refused: Requests that were answered with 503 because the spool was full.
        dropped: Rows that were answered but not kept because the spool was full.
        damaged: Lines that were set aside, because they cannot be read or the database refuses.
        torn: Last lines of killed processes that were not written to their end, nor answered.
    """

    recorded: int = 0
    shipped: int = 0
    refused: int = 0
    dropped: int = 0
    damaged: int = 0
    torn: int = 0


class PredictionLog:
    """Keeps every answered prediction until the table ``predictions`` has it, exactly once."""

    def __init__(self, settings: ServingSettings) -> None:
        """Prepare; nothing is written before ``start``."""
        self._settings = settings
        self.root, self.max_bytes = settings.spool, settings.spool_max_bytes
        self.counts = Counts()
        self.database_error: str | None = None
        self.answered_at = 0.0
        self._segment_bytes = max(4096, min(_SEGMENT_BYTES, self.max_bytes // 8))
        # For what is written to, since several threads answer.
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._unsynced: list[int] = []
        self._size = self._found = self._added = 0
        self._has_failed = False
        self._complained_at = -_COMPLAINT_SECONDS
        self._heads: dict[str, _Head] = {}
        self._threads: list[threading.Thread] = []
        self.stopping = threading.Event()

    @property
    def stored_bytes(self) -> int:
        """The size of all processes' segments, as far as this one knows."""
        return self._found + self._added

    @property
    def is_full(self) -> bool:
        """Whether predictions are refused or dropped at the moment."""
        return self._has_failed or self.stored_bytes + 4096 > self.max_bytes

    def oldest_at(self) -> float | None:
        """Since when the oldest prediction may wait, in seconds since 1970; None for none."""
        names = [path.name for path in self.root.glob("*.log")]
        return int(min(names).partition("-")[0]) / 1e9 if names else None

    def start(self) -> None:
        """Begin to keep and to ship, unless that was done.

        Raises:
            UserError: The spool folder cannot be written.
        """
        if self._threads:
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.look_around(probe=True)
        except OSError as error:
            raise UserError(f"MLOPS_SPOOL: the spool cannot be written: {error}") from error
        tasks = [Shipper(self, self._settings.ship_seconds, self._settings.retry_seconds).run]
        if self._settings.spool_sync == "every_second":
            tasks.append(self._sync_until_stopped)
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
        rows = sum(one.question.rows.count for one in answered)
        try:
            self._append([part for one in answered for part in self._line(one)])
        except OSError as error:
            self._not_kept(len(answered), rows, str(error))
        else:
            self.answered_at = time.monotonic()
            self.counts.recorded += rows

    def end_segment(self) -> None:
        """Let what was written be shipped."""
        with self._lock:
            self._end_segment()

    def look_around(self, *, probe: bool = False) -> None:
        """See how much all have stored, and whether a disk that failed takes something again."""
        with self._lock:
            self._added = self._found = 0
            for path in self.root.glob("*.log"):
                with suppress(FileNotFoundError):
                    self._found += path.stat().st_size
        if probe or self._has_failed:
            place = self.root / f"probe-{uuid4().hex}"
            try:
                place.write_bytes(bytes(8192))
                self._has_failed = False
            finally:
                place.unlink(missing_ok=True)

    def _append(self, parts: list[bytes]) -> None:
        """Write whole lines: all of them or none.

        Raises:
            OSError: The bound is reached, or the disk takes no more.
        """
        size = sum(map(len, parts))
        if size <= _JOINED_BYTES:
            parts = [b"".join(parts)]
        with self._lock:
            if self.stored_bytes + size > self.max_bytes:
                raise OSError(
                    f"it holds {self.stored_bytes} of at most {self.max_bytes} bytes that were "
                    "not shipped to the database (MLOPS_SPOOL_MAX_BYTES)"
                )
            try:
                if self._size >= self._segment_bytes:
                    self._end_segment()
                self._write(self._begin_segment(), parts, size)
            except OSError:
                self._has_failed = True
                raise
            self._has_failed = False

    def _begin_segment(self) -> int:
        while self._descriptor is None:
            name = f"{time.time_ns():020d}-{os.getpid()}-{uuid4().hex[:8]}.log"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            descriptor = os.open(self.root / name, flags, 0o600)
            # Another process may take the file for a dead one's before it is locked.
            if _is_locked(descriptor) and os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        return self._descriptor

    def _write(self, descriptor: int, parts: list[bytes], size: int) -> None:
        try:
            for part in parts:
                written = os.write(descriptor, part)
                while written < len(part):
                    written += os.write(descriptor, memoryview(part)[written:])
            if self._settings.spool_sync == "always":
                _sync_file(descriptor)
        except OSError:
            # Take back a part of a line; where even that fails, nothing may follow it.
            try:
                os.ftruncate(descriptor, self._size)
            except OSError:
                self._end_segment()
            raise
        self._size += size
        self._added += size

    def _end_segment(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        self._size = 0
        if descriptor is None:
            return
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        if self._settings.spool_sync == "every_second":
            self._unsynced.append(descriptor)
        else:
            os.close(descriptor)

    def _sync_until_stopped(self) -> None:
        is_last = False
        while not is_last:
            is_last = self.stopping.wait(1.0)
            with self._lock:
                ended, self._unsynced = self._unsynced, []
                current = [] if self._descriptor is None else [os.dup(self._descriptor)]
            for descriptor in (*ended, *current):
                try:
                    _sync_file(descriptor)
                except OSError:
                    logger.exception("The prediction log cannot be synchronised with the disk")
                os.close(descriptor)

    def _line(self, answered: "Answered") -> list[bytes]:
        """The parts of a line, which may be large."""
        question = answered.question
        rows, manifest = question.rows, question.served.manifest
        head = self._heads.get(manifest.release) or self._remember(manifest)
        given = question.request.headers.get(REQUEST_ID)
        name = question.request.facts.request_id
        values, *chances = answered.texts
        label, labels, probabilities = rb"\N", head.labels, [rb"\N"]
        if rows.form is Form.ONE:
            label, labels = head.label_of.get(values, rb"\N"), rb"\N"
            if chances:
                probabilities = [b"{%b}" % b",".join(one[1:-1] for one in chances)]
        elif chances:
            probabilities = [b"[", *chain.from_iterable((one, b",") for one in chances)]
            probabilities[-1] = b"]"
        parts = [
            b"%b\t%b\t%d\t%.6g\t%b\t{%b}\t%b\t%b\t%b\t"
            % (
                head.text,
                answered.prediction_id.encode(),
                answered.answered_at // 1000,
                answered.latency_seconds * 1000,
                given if given == name.encode() else rb"\N",
                values[1:-1],
                label,
                labels,
                rows.form.name.encode(),
            ),
            _copied(bytes(rows.text)),
            b"\t",
            *probabilities,
            b"\n",
        ]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        return [b"%08x\t" % checksum, *parts]

    def _remember(self, manifest: Manifest) -> "_Head":
        """Only texts are kept of a release, not the release."""
        labels = manifest.contract.target.labels
        facts = (manifest.contract.name, manifest.release, str(manifest.version))
        written = {str(code): label for code, label in labels.items()}
        head = self._heads[manifest.release] = _Head(
            b"\t".join(_copied(one.encode()) for one in facts),
            {b"[%b]" % code.encode(): _copied(one.encode()) for code, one in written.items()},
            _copied(msgspec.json.encode(written)),
        )
        return head

    def _not_kept(self, requests: int, rows: int, reason: str) -> None:
        is_refused = self._settings.spool_when_full == "refuse"
        if is_refused:
            # Of several each is tried again alone.
            self.counts.refused += requests == 1
        else:
            self.counts.dropped += rows
        now = time.monotonic()
        if now - self._complained_at > _COMPLAINT_SECONDS:
            self._complained_at = now
            done = "refused" if is_refused else "answered without being kept"
            logger.error("Predictions are %s, the prediction log takes no more: %s", done, reason)
        if is_refused:
            raise not_ready(
                "Predictions cannot be recorded at the moment: the prediction log is full, or "
                "cannot be written",
                retry_seconds=5,
            )


class _Head(NamedTuple):
    """What the lines of a release have in common, as COPY takes it."""

    text: bytes
    label_of: dict[bytes, bytes]
    labels: bytes


class Shipper:
    """The thread that writes ended segments to the database."""

    def __init__(self, log: PredictionLog, pause_seconds: float, retry_seconds: float) -> None:
        """Prepare; nothing is connected before there is something to ship."""
        self._log = log
        self._pause = pause_seconds
        self._longest_retry = min(retry_seconds, _LONGEST_RETRY_SECONDS)
        self._connection: Connection | None = None
        self._failures = 0

    def run(self) -> None:
        """Ship until the log is stopped, and then once more what came in last."""
        pause = 0.0
        while not self._log.stopping.wait(pause):
            pause = self._round()
        self._round()
        self._disconnect()

    def _round(self) -> float:
        """Ship all there is; gives the seconds until the next time."""
        log = self._log
        try:
            log.look_around()
            if log.stored_bytes:
                connection = self._connect()
                log.end_segment()
                for segment in sorted(log.root.glob("*.log")):
                    self._ship(connection, segment)
        except Exception as error:  # noqa: BLE001  (the thread outlives every failure)
            self._disconnect()
            return self._failed(error)
        if self._failures:
            logger.info("The prediction log is shipped to the database again")
        self._failures, log.database_error = 0, None
        return self._pause

    def _ship(self, connection: "Connection", segment: Path) -> None:
        """Write a segment and remove it, unless another process writes to it or ships it."""
        try:
            file = segment.open("rb")
        except FileNotFoundError:
            return
        with file:
            if not _is_locked(file.fileno()):
                return
            for lines in self._batches(file):
                started = time.perf_counter()
                self._insert(connection, lines)
                self._rest(started)
            segment.unlink(missing_ok=True)

    def _batches(self, file: BinaryIO) -> Iterator[list[bytes]]:
        """The lines of a segment, in pieces that fit into a transaction."""
        lines: list[bytes] = []
        size, started = 0, time.perf_counter()
        for number, line in enumerate(file, 1):
            lines += self._payloads(line)
            size += len(line)
            if size >= _BATCH_BYTES:
                yield lines
                lines, size, started = [], 0, time.perf_counter()
            elif number % _LINES_A_PIECE == 0:
                self._rest(started)
                started = time.perf_counter()
        if lines:
            yield lines

    def _rest(self, started: float) -> None:
        """Let requests come first: they need the interpreter's lock, and the same processors.

        A wait for the database counts as little work, and a spool that fills up ends all rests.
        """
        log = self._log
        worked = min(time.perf_counter() - started, _LONGEST_WORK_SECONDS)
        is_busy = time.monotonic() - log.answered_at < _QUIET_SECONDS
        if is_busy and log.stored_bytes * 2 < log.max_bytes:
            log.stopping.wait(worked * _REST_TO_WORK)

    def _payloads(self, line: bytes) -> Iterator[bytes]:
        """What COPY takes of a line; a flipped bit may have joined it with the next one."""
        if _is_whole(line):
            yield line[9:]
            return
        for found in _LINE.finditer(line, 1):
            if _is_whole(line[found.start() :]):
                yield line[found.start() + 9 :]
                self._set_aside(line[: found.start()], "it is damaged")
                return
        if line.endswith(b"\n"):
            self._set_aside(line, "it is damaged")
        else:
            # Its writer was killed: such a request was never answered.
            self._log.counts.torn += 1

    def _insert(self, connection: "Connection", lines: Sequence[bytes]) -> None:
        """Write lines in one transaction; where one is refused, all others are still written."""
        import psycopg2

        content = b"".join(lines)
        seconds = _STATEMENT_SECONDS + len(content) // _BYTES_A_SECOND
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = '{seconds}s'")
                cursor.copy_expert("COPY staged FROM STDIN", io.BytesIO(content), size=1 << 16)
                cursor.execute(_INSERT)
                count = cursor.rowcount
            self._log.counts.shipped += count
        except psycopg2.Error as error:
            if (error.pgcode or "")[:2] not in _DATA_FAULTS:
                raise
            if len(lines) > 1:
                middle = len(lines) // 2
                self._insert(connection, lines[:middle])
                self._insert(connection, lines[middle:])
            elif (plain := _with_plain_numbers(lines[0])) != lines[0]:
                self._insert(connection, [plain])
            else:
                self._set_aside(lines[0], " ".join(str(error).split()))

    def _set_aside(self, line: bytes, reason: str) -> None:
        kept = self._log.root / "damaged"
        with kept.open("ab") as file:
            file.write(line.rstrip(b"\n") + b"\n")
        self._log.counts.damaged += 1
        logger.error("A line of the prediction log is kept in %s, since %s", kept, reason)

    def _connect(self) -> "Connection":
        if self._connection is None:
            self._connection = own_connection(_STATEMENT_SECONDS)
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute(_STAGE)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        self._log.database_error = reason_of(error)
        if self._failures == 1:
            logger.warning(
                "The prediction log cannot be shipped, it waits in the spool: %s",
                self._log.database_error,
            )
        return min(self._longest_retry, 0.25 * 2.0 ** min(self._failures - 1, 8))


def _is_locked(descriptor: int) -> bool:
    """Lock an open file, unless another process has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_whole(line: bytes) -> bool:
    return line[8:9] == b"\t" and line[:8] == b"%08x" % zlib.crc32(line[9:])


def _copied(text: bytes) -> bytes:
    """A text as COPY takes it."""
    for raw, written in ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\r", rb"\r"), (b"\t", rb"\t")):
        if raw in text:
            text = text.replace(raw, written)
    return text


def _with_plain_numbers(line: bytes) -> bytes:
    """A line whose features have the numbers that were predicted.

    As a client writes them, they may have more digits than the database keeps.
    """
    parts = line.split(b"\t")
    text = parts[-2].replace(rb"\n", b"").replace(rb"\r", b"").replace(rb"\t", b"")
    parts[-2] = _copied(msgspec.json.encode(json.loads(text.replace(rb"\\", b"\\"))))
    return b"\t".join(parts)
