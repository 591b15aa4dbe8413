"""Ships spooled segments to the table ``predictions``, each row exactly once."""

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlops_for_mle.errors import UserError
from mlops_for_mle.serving.prediction_log.frames import (
    FrameError,
    LineFrame,
    ReleaseFrame,
    read_frames,
)
from mlops_for_mle.serving.prediction_log.lines import COLUMNS, COPY_FORMAT, LineWriter

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  (a class of C code)

_ROWS_A_TRANSACTION = 5_000

# Between pieces of about this size the thread rests, so that the requests of this process never
# wait long for the interpreter's lock.
_ROWS_A_PIECE = 100

_NAMES = ", ".join(COLUMNS)
_COPY = f"COPY predictions ({_NAMES}) FROM STDIN WITH {COPY_FORMAT}"
_STAGE = """
CREATE TEMPORARY TABLE staged_predictions (LIKE predictions) ON COMMIT DROP
"""
_COPY_STAGED = f"COPY staged_predictions ({_NAMES}) FROM STDIN WITH {COPY_FORMAT}"
_INSERT_STAGED = f"""
INSERT INTO predictions ({_NAMES}) SELECT {_NAMES} FROM staged_predictions
ON CONFLICT (prediction_id) DO NOTHING
"""  # noqa: S608  (all names are constants)

logger = logging.getLogger(__name__)


class PredictionShipper:
    """Writes segments in batches; what was written before is recognised by its prediction id."""

    def __init__(
        self, rejects: Path, written: Callable[[int], None], rest_after: Callable[[float], float]
    ) -> None:
        """Nothing is connected before the first segment.

        Args:
            rejects: The file that takes rows which the database refuses for what they hold.
            written: Called after each transaction with the number of its rows.
            rest_after: Gives the seconds to rest after so many seconds of work.
        """
        self._rejects = rejects
        self._written = written
        self._rest_after = rest_after
        self._url: str | None = None

    def check(self) -> None:
        """Connect, so that a failure is known before anything is prepared for shipping.

        Raises:
            Exception: The database is not available.
        """
        with self._connection():
            pass

    def ship(self, segment: Path) -> None:
        """Write the rows of a segment.

        Raises:
            FrameError: The segment cannot be read to its end; what could be read was written.
            Exception: The database is not available; some rows may have been written.
        """
        with self._connection() as connection:
            for lines in self._batches(segment):
                started = time.perf_counter()
                self._write(connection, lines)
                self._rest_since(started)

    def _write(self, connection: "Connection", lines: Sequence[bytes]) -> None:
        """Write rows in one transaction; where one is refused, all others are still written."""
        import psycopg2
        from psycopg2.errors import UniqueViolation

        content = io.BytesIO(b"\n".join(lines) + b"\n")
        try:
            try:
                with connection.cursor() as cursor:
                    cursor.copy_expert(_COPY, content, size=1 << 16)
                connection.commit()
            except UniqueViolation:
                # An earlier attempt was broken off, so some rows may be in the table.
                connection.rollback()
                content.seek(0)
                self._write_missing(connection, content)
        except psycopg2.DataError as error:
            connection.rollback()
            if len(lines) == 1:
                self._reject(lines[0], str(error))
                return
            middle = len(lines) // 2
            self._write(connection, lines[:middle])
            self._write(connection, lines[middle:])
        else:
            self._written(len(lines))

    def _write_missing(self, connection: "Connection", content: io.BytesIO) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_STAGE)
            cursor.copy_expert(_COPY_STAGED, content, size=1 << 16)
            cursor.execute(_INSERT_STAGED)
        connection.commit()

    def _reject(self, line: bytes, reason: str) -> None:
        logger.error(
            "The database refuses a prediction, which is kept in %s: %s",
            self._rejects,
            " ".join(reason.split()),
        )
        with self._rejects.open("ab") as file:
            file.write(line + b"\n")

    def _batches(self, segment: Path) -> Iterator[list[bytes]]:
        """The lines of a segment, in pieces that fit into a transaction.

        Raises:
            FrameError: After the last line that can be read.
        """
        writers: dict[str, LineWriter] = {}
        lines: list[bytes] = []
        pause_at = _ROWS_A_PIECE
        started = time.perf_counter()
        frames = read_frames(segment)
        failure: FrameError | None = None
        while True:
            try:
                frame = next(frames, None)
            except FrameError as error:
                frame, failure = None, error
            if frame is None:
                break
            if isinstance(frame, ReleaseFrame):
                writers[frame.release] = LineWriter(frame)
                continue
            if isinstance(frame, LineFrame):
                found: Iterable[bytes] = (frame.line,)
            else:
                found = writers[frame.release].lines(frame)
            for line in found:
                lines.append(line)
                if len(lines) == pause_at:
                    started = self._rest_since(started)
                    pause_at += _ROWS_A_PIECE
                if len(lines) == _ROWS_A_TRANSACTION:
                    yield lines
                    lines = []
                    pause_at = _ROWS_A_PIECE
                    started = time.perf_counter()
        if lines:
            yield lines
        if failure is not None:
            raise failure

    def _rest_since(self, started: float) -> float:
        """Rest for the work since a time; gives the time at which work goes on."""
        time.sleep(self._rest_after(time.perf_counter() - started))
        return time.perf_counter()

    @contextmanager
    def _connection(self) -> "Iterator[Connection]":
        """Borrow a connection.

        Raises:
            UserError: The database is not available or lacks the table.
        """
        import psycopg2

        from mlops_for_mle.database import DatabaseUnavailableError, database_url, reachable

        try:
            self._url = self._url or database_url()
            with reachable(self._url) as engine, engine.connect() as borrowed:
                try:
                    yield cast("Connection", borrowed.connection)
                except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                    # Not to be lent again.
                    borrowed.invalidate(error)
                    reason = " ".join(str(error).split())
                    raise DatabaseUnavailableError(
                        f"The database has ended the connection: {reason}"
                    ) from error
        except psycopg2.errors.UndefinedTable:
            raise UserError(
                "The database has no table predictions: run `kedro db upgrade`."
            ) from None
        except Exception:
            # The embedded server may come back at another port.
            self._url = None
            raise
