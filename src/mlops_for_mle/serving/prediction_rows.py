"""Writes spooled predictions as lines that Postgres copies into the table ``predictions``."""

from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from mlops_for_mle.serving.prediction_frames import PredictionFrame, ReleaseFrame

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

LineWriter = Callable[[PredictionFrame], Iterator[bytes]]

# Writes floats ten times as fast as Python's own formatting does.
_encode = msgspec.json.Encoder().encode


def line_writer(release: ReleaseFrame) -> LineWriter:
    """A function that gives one line for each row that a release has answered."""
    names = release.features
    width = len(names)
    labels = {value: _quoted(label) for value, label in release.labels.items()}
    value_code = "q" if release.value_type == "integer" else "d"
    common = (
        _quoted(release.contract),
        _quoted(release.release),
        str(release.model_version).encode(),
    )
    separator = _SEPARATOR
    tell_time = _Clock()

    def lines(frame: PredictionFrame) -> Iterator[bytes]:
        if frame.given is None:
            flat = array("d", frame.rows).tolist()
            rows = [flat[start : start + width] for start in range(0, len(flat), width)]
        else:
            rows = msgspec.json.decode(frame.given)
        values = array(value_code, frame.values).tolist()
        probabilities = array("d", frame.probabilities or b"").tolist()
        count = len(values)
        classes = len(probabilities) // count
        name = frame.prediction_id.encode()
        middle = separator.join(
            (
                *common,
                tell_time(frame.answered_at),
                b"%.6g" % (frame.latency_seconds * 1000),
                (frame.request_id or "").encode(),
            )
        )
        for index, value in enumerate(values):
            yield separator.join(
                (
                    name if count == 1 else b"%b-%d" % (name, index),
                    middle,
                    _encode(value),
                    labels.get(value, b""),
                    _encode(dict(zip(names, rows[index], strict=True))),
                    _encode(probabilities[index * classes : (index + 1) * classes]).translate(
                        _TO_ARRAY
                    )
                    if classes
                    else b"",
                )
            )

    return lines


class _Clock:
    """Writes times; those within one second differ only in their end."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def __call__(self, microseconds: int) -> bytes:
        second, rest = divmod(microseconds, 1_000_000)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()
        return b"%b.%06d+00" % (self._text, rest)


def _quoted(text: str) -> bytes:
    return _QUOTE + text.encode().replace(_QUOTE, _QUOTE * 2) + _QUOTE
