"""Writes spooled predictions as lines that Postgres copies into the table ``predictions``."""

from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlops_for_mle.serving.prediction_log.frames import PredictionFrame, ReleaseFrame, storable
from mlops_for_mle.serving.recording import AnsweredPredictions

COLUMNS = (
    "prediction_id",
    "contract",
    "release",
    "model_version",
    "created_at",
    "latency_ms",
    "request_id",
    "prediction",
    "label",
    "features",
    "probabilities",
)

# JSON and printable text hold neither of them, so that next to nothing needs to be quoted.
_SEPARATOR = b"\x02"
_QUOTE = b"\x01"

COPY_FORMAT = "(FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"

# A list of JSON becomes an array of Postgres.
_TO_ARRAY = bytes.maketrans(b"[]", b"{}")

# Writes floats ten times as fast as Python's own formatting does.
_encode = msgspec.json.Encoder().encode


class LineWriter:
    """Writes one line for each row that a release has answered."""

    def __init__(self, release: ReleaseFrame) -> None:
        """Prepare for the rows of a release."""
        self._names = release.features
        self._labels: dict[float, bytes] = {
            value: _quoted(label) for value, label in release.labels.items()
        }
        self._value_code = "q" if release.value_type == "integer" else "d"
        self._common = _SEPARATOR.join(
            (
                _quoted(release.contract),
                _quoted(release.release),
                str(release.model_version).encode(),
            )
        )
        self._tell_time = _Clock()

    def line(self, answered: AnsweredPredictions) -> bytes:
        """The line of a request of one row."""
        probabilities = answered.predictions.probabilities
        return self._line(
            answered.prediction_id.encode(),
            self._middle(
                answered.answered_at // 1000,
                answered.latency_seconds,
                storable(answered.request_id),
            ),
            answered.predictions.values.item(0),
            answered.rows.tolist()[0] if answered.given is None else answered.given[0],
            () if probabilities is None else probabilities.tolist()[0],
        )

    def lines(self, frame: PredictionFrame) -> Iterator[bytes]:
        """The lines of a request of any number of rows."""
        if frame.given is None:
            flat, width = array("d", frame.rows).tolist(), len(self._names)
            rows = [flat[start : start + width] for start in range(0, len(flat), width)]
        else:
            rows = msgspec.json.decode(frame.given)
        values = array(self._value_code, frame.values).tolist()
        probabilities = array("d", frame.probabilities or b"").tolist()
        count = len(values)
        classes = len(probabilities) // count
        name = frame.prediction_id.encode()
        middle = self._middle(frame.answered_at, frame.latency_seconds, frame.request_id)
        for index, value in enumerate(values):
            yield self._line(
                name if count == 1 else b"%b-%d" % (name, index),
                middle,
                value,
                rows[index],
                probabilities[index * classes : (index + 1) * classes],
            )

    def _middle(self, answered_at: int, latency_seconds: float, request_id: str | None) -> bytes:
        """What the rows of a request have in common."""
        return b"%b\x02%b\x02%.6g\x02%b" % (
            self._common,
            self._tell_time(answered_at),
            latency_seconds * 1000,
            b"" if request_id is None else request_id.encode(),
        )

    def _line(
        self,
        prediction_id: bytes,
        middle: bytes,
        value: float,
        row: Sequence[Any],
        probabilities: Sequence[float],
    ) -> bytes:
        return b"%b\x02%b\x02%b\x02%b\x02%b\x02%b" % (
            prediction_id,
            middle,
            _encode(value),
            self._labels.get(value, b""),
            _encode(dict(zip(self._names, row, strict=True))),
            _encode(probabilities).translate(_TO_ARRAY) if probabilities else b"",
        )


class _Clock:
    """Writes times; those within one second differ only in their end."""

    def __init__(self) -> None:
        # Replaced as a whole, since several threads may ask.
        self._known = (-1, b"")

    def __call__(self, microseconds: int) -> bytes:
        second, rest = divmod(microseconds, 1_000_000)
        known, text = self._known
        if second != known:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()
            self._known = (second, text)
        return b"%b.%06d+00" % (text, rest)


def _quoted(text: str) -> bytes:
    return _QUOTE + text.encode().replace(_QUOTE, _QUOTE * 2) + _QUOTE
