"""The tensors of the Open Inference Protocol as they stand in a request."""

from typing import Any

import msgspec

# Element types of the protocol by their names; binary data is little-endian.
ELEMENT_TYPES = {
    "FP64": "<f8",
    "FP32": "<f4",
    "FP16": "<f2",
    "INT64": "<i8",
    "INT32": "<i4",
    "INT16": "<i2",
    "INT8": "<i1",
    "UINT64": "<u8",
    "UINT32": "<u4",
    "UINT16": "<u2",
    "UINT8": "<u1",
}


class InputTensor(msgspec.Struct):
    """One tensor of a request, as it stands in the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] = {}


def count_of(shape: list[int]) -> int:
    """How many elements a tensor of this shape has."""
    count = 1
    for extent in shape:
        count *= extent
    return count
