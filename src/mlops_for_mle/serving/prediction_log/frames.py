"""The records of a spooled segment and how they stand in a file.

A segment is a sequence of frames: the payload's length and its CRC-32, four little-endian bytes
each, and the payload, a MessagePack array. A request of one row is kept as the line that the
database takes, one of many as matrices, which are written much faster. A release is described once
in each segment, before the first predictions that it made, so that a segment can be shipped by a
process that never loaded that release.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from mlops_for_mle.release import Manifest
from mlops_for_mle.serving.recording import AnsweredPredictions

_HEADER = struct.Struct("<II")
_LONGEST_REQUEST_ID = 200

ValueType = Literal["integer", "float"]


class FrameError(Exception):
    """A segment does not go on as it should.

    Attributes:
        offset: Where the first frame begins that cannot be read.
        is_torn: Whether the file merely ends too early, as it does when its writer was killed.
    """

    def __init__(self, path: Path, offset: int, is_torn: bool) -> None:
        """Say where reading ended and how."""
        reason = "ends within a frame" if is_torn else "holds a frame with a wrong checksum"
        super().__init__(f"{path} {reason} at byte {offset}")
        self.offset = offset
        self.is_torn = is_torn


class ReleaseFrame(msgspec.Struct, array_like=True, tag="release", frozen=True):
    """What the rows of a release mean.

    Attributes:
        release: Its name.
        contract: The contract's name.
        model_version: Its version in the registry.
        features: Their names, in the order of the rows.
        labels: The name of each class code; empty for a regression.
        value_type: What a prediction is: a class code (int64) or a number (float64).
    """

    release: str
    contract: str
    model_version: int
    features: tuple[str, ...]
    labels: dict[int, str]
    value_type: ValueType


class PredictionFrame(msgspec.Struct, array_like=True, tag="predictions", frozen=True, gc=False):
    """The answered rows of one request; matrices as their float64 elements, row by row.

    Attributes:
        release: The release that answered, described earlier in the segment.
        prediction_id: The id of the request's predictions.
        answered_at: Microseconds since 1970, UTC.
        latency_seconds: From the request's arrival to its prediction.
        request_id: The client's name for the request.
        rows: Rows by features; empty where ``given`` holds them.
        values: One prediction a row, of the release's value type.
        probabilities: Rows by classes.
        given: The rows as JSON, a list of values each, where they are more than numbers.
    """

    release: str
    prediction_id: str
    answered_at: int
    latency_seconds: float
    request_id: str | None
    rows: bytes
    values: bytes
    probabilities: bytes | None
    given: bytes | None = None


class LineFrame(msgspec.Struct, array_like=True, tag="line", frozen=True, gc=False):
    """The answered row of a request of one row, as ``prediction_rows`` writes it."""

    line: bytes


Frame = ReleaseFrame | PredictionFrame | LineFrame

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def describe_release(manifest: Manifest) -> ReleaseFrame:
    """What the log says of a release."""
    contract = manifest.contract
    return ReleaseFrame(
        release=manifest.release,
        contract=contract.name,
        model_version=manifest.model.version,
        features=contract.feature_names,
        labels=contract.target.labels,
        value_type="integer" if contract.target.task == "classification" else "float",
    )


def framed(frame: Frame) -> bytes:
    """A frame as it stands in the file."""
    payload = _encode(frame)
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def describe_predictions(answered: AnsweredPredictions) -> PredictionFrame:
    """What the log keeps of a request of many rows."""
    predictions = answered.predictions
    rows, probabilities = answered.rows, predictions.probabilities
    given = None if answered.given is None else msgspec.json.encode(answered.given)
    if rows.dtype != np.float64:
        rows = rows.astype(np.float64)
    return PredictionFrame(
        answered.manifest.release,
        answered.prediction_id,
        answered.answered_at // 1000,
        answered.latency_seconds,
        storable(answered.request_id),
        rows.tobytes() if given is None else b"",
        predictions.values.tobytes(),
        probabilities.tobytes() if probabilities is not None else None,
        given,
    )


def read_frames(path: Path) -> Iterator[Frame]:
    """Read a segment from its beginning.

    Raises:
        FrameError: After the last frame that can be read, when there is more in the file.
    """
    content = memoryview(path.read_bytes())
    size, offset = len(content), 0
    while offset < size:
        start = offset + _HEADER.size
        if start > size:
            raise FrameError(path, offset, is_torn=True)
        length, checksum = _HEADER.unpack_from(content, offset)
        end = start + length
        if end > size:
            raise FrameError(path, offset, is_torn=True)
        payload = content[start:end]
        # No payload is empty; after a power failure a file may end with zeros.
        if not length or zlib.crc32(payload) != checksum:
            raise FrameError(path, offset, is_torn=False)
        yield _decode(payload)
        offset = end


def storable(text: str | None) -> str | None:
    """A client's text as the table takes it: no control characters and of a modest length."""
    if text is None or (text.isprintable() and len(text) <= _LONGEST_REQUEST_ID):
        return text
    return "".join(one if one.isprintable() else "�" for one in text[:_LONGEST_REQUEST_ID])
