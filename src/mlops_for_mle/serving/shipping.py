"""Ships the prediction log: from ended segments of the spool to the table, exactly once.

A batch of lines is copied into a temporary table and inserted where ``predictions`` does not have
it yet; then its segment is removed. A line that cannot be read, or that the table refuses, is set
aside, and never keeps others from being shipped.
"""

import fcntl
import io
import logging
import re
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_for_mle.serving.database import reason_of, transaction

if TYPE_CHECKING:
    from mlops_for_mle.serving.prediction_log import PredictionLog

_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged (
    contract text, release text, model_version integer, prediction_id text, microseconds bigint,
    latency_ms real, request_id text, predictions float8[], labels jsonb, form text,
    row_count integer, features jsonb, probabilities float8[]
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
        CASE row_count WHEN 1 THEN prediction_id ELSE prediction_id || '-' || (place - 1) END,
        prediction, one, chances::float8[]
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
    ) WITH ORDINALITY AS r (prediction, one, chances, place)
    WHERE form <> 'ONE'
) AS row
ON CONFLICT (prediction_id) DO NOTHING
"""

_BATCH_BYTES = 256 * 1024
# Long enough for the largest request.
_STATEMENT_SECONDS = 240.0
_RETRY_SECONDS = 2.0
_REST_TO_WORK, _LONGEST_WORK_SECONDS, _QUIET_SECONDS = 3.0, 0.25, 0.1
# Errors of the data, by the classes of their SQLSTATE; all others are the database's.
_DATA_FAULTS = ("22", "23", "54")
_LINE = re.compile(rb"[0-9a-f]{8}\t[a-z]")

logger = logging.getLogger(__name__)


class Shipper:
    """The thread that writes ended segments to the database."""

    def __init__(self, log: "PredictionLog", pause: float) -> None:
        self._log, self._pause = log, pause
        self._is_failing = False

    def run(self) -> None:
        """Ship until the log is stopped, and then once more what came in last."""
        pause = 0.0
        while not self._log.stopping.wait(pause):
            pause = self._round()
        self._round()

    def _round(self) -> float:
        """Ship all there is; gives the seconds until the next time."""
        log = self._log
        try:
            log.look_around()
            if log.stored_bytes:
                # An outage would otherwise leave a segment a round.
                with transaction("shipper", _STATEMENT_SECONDS):
                    log.end_segment()
                for segment in sorted(log.root.glob("*.log")):
                    self._ship(segment)
        except Exception as error:  # noqa: BLE001  (the thread outlives every failure)
            if not self._is_failing:
                self._is_failing = True
                told = "The prediction log cannot be shipped, it waits in the spool: %s"
                logger.warning(told, reason_of(error))
            return min(self._pause, _RETRY_SECONDS)
        if self._is_failing:
            self._is_failing = False
            logger.info("The prediction log is shipped to the database again")
        return self._pause

    def _ship(self, segment: Path) -> None:
        """Write a segment and remove it, unless another process writes to it or ships it."""
        with suppress(FileNotFoundError), segment.open("rb") as file:
            if not is_locked(file.fileno()):
                return
            while lines := file.readlines(_BATCH_BYTES):
                started = time.perf_counter()
                self._insert([one for one in map(self._payload, lines) if one])
                self._rest(time.perf_counter() - started)
            segment.unlink(missing_ok=True)

    def _rest(self, worked: float) -> None:
        """Let requests come first: they need the interpreter's lock, and the same processors.

        A wait for the database counts as little work, and a spool that fills up ends all rests.
        """
        log = self._log
        is_busy = time.monotonic() - log.answered_at < _QUIET_SECONDS
        if is_busy and log.stored_bytes * 2 < log.max_bytes:
            log.stopping.wait(min(worked, _LONGEST_WORK_SECONDS) * _REST_TO_WORK)

    def _payload(self, line: bytes) -> bytes:
        """What COPY takes of a line, empty where it is damaged.

        A flipped bit may have joined it with the line before.
        """
        for found in _LINE.finditer(line):
            start, payload = found.start(), line[found.start() + 9 :]
            if line[start : start + 8] == b"%08x" % zlib.crc32(payload):
                if start:
                    self._set_aside(line[:start], "it is damaged")
                return payload
        if line.endswith(b"\n"):
            self._set_aside(line, "it is damaged")
        else:
            # Its writer was killed: such a request was never answered.
            self._log.counts["torn"].inc()
        return b""

    def _insert(self, lines: Sequence[bytes]) -> None:
        """Write lines in one transaction; where one is refused, all others are still written."""
        import psycopg2

        if not lines:
            return
        try:
            self._log.counts["shipped"].inc(_copy(b"".join(lines)))
        except psycopg2.Error as error:
            if (error.pgcode or "")[:2] not in _DATA_FAULTS:
                raise
            if len(lines) == 1:
                self._set_aside(lines[0], str(error.diag.message_primary))
                return
            for line in lines:
                self._insert([line])

    def _set_aside(self, line: bytes, reason: str) -> None:
        kept = self._log.root / "damaged"
        with kept.open("ab") as file:
            file.write(line.rstrip(b"\n") + b"\n")
        self._log.counts["damaged"].inc()
        logger.error("A line of the prediction log is kept in %s: %s", kept, reason)


def _copy(content: bytes) -> int:
    """Write lines in one transaction; gives how many rows the table did not have yet."""
    with transaction("shipper", _STATEMENT_SECONDS) as connection:
        connection.exec_driver_sql(_STAGE)
        cursor: Any = connection.connection.cursor()
        cursor.copy_expert("COPY staged FROM STDIN", io.BytesIO(content), size=1 << 16)
        cursor.execute(_INSERT)
        connection.commit()
        return int(cursor.rowcount)


def is_locked(descriptor: int) -> bool:
    """Lock an open file, unless another process has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
