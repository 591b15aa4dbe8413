"""Reads tensors of values for each feature, of a contract that has more than plain numbers.

They are what MLServer's pandas codec makes of a frame: one tensor of shape [rows] or [rows, 1] a
column; numbers as FP64, INT64 or another number, booleans as BOOL, text, dates and times as BYTES.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from mlops_for_mle.contract import Feature
from mlops_for_mle.serving.formats.feature_checks import (
    Faults,
    FeatureChecks,
    ReadRows,
    describe,
    plain,
)
from mlops_for_mle.serving.formats.tensor_elements import ELEMENT_TYPES, InputTensor, count_of
from mlops_for_mle.serving.formats.value_casts import cast
from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable

_BINARY_TYPES = {**ELEMENT_TYPES, "BOOL": "|b1"}

DATATYPES = (*_BINARY_TYPES, "BYTES")


def read_feature_tensors(
    inputs: list[InputTensor], binary: memoryview, checks: FeatureChecks
) -> ReadRows:
    """Read one tensor for each feature.

    Raises:
        ProblemError: 422.
    """
    columns: dict[str, list[Any]] = {}
    offset = 0
    for tensor in inputs:
        where = f"inputs.{tensor.name}"
        if tensor.name in columns:
            raise _refused(where, "is given more than once", None, "each name once")
        if tensor.name not in checks.features:
            raise _refused(where, "is unknown", None, ", ".join(checks.features))
        if tensor.datatype not in DATATYPES:
            allowed = ", ".join(DATATYPES)
            raise _refused(f"{where}.datatype", "is unknown", shown(tensor.datatype), allowed)
        shape = tensor.shape
        if not shape or min(shape) < 1 or (len(shape) > 1 and shape[1:] != [1]):
            raise _refused(f"{where}.shape", "is no shape", str(shape)[:80], "[rows] or [rows, 1]")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            values = _json_values(tensor, where)
        else:
            if type(size) is not int or not 0 <= size <= len(binary) - offset:
                allowed = "the bytes of the tensor, all of them behind the JSON"
                raise _refused(
                    f"{where}.parameters.binary_data_size", "does not fit", None, allowed
                )
            values = _binary_values(tensor, binary[offset : offset + size])
            offset += size
        if len(values) != count_of(shape):
            allowed = f"{count_of(shape)}, as the shape says"
            raise _refused(f"{where}.data", "has another size", str(len(values)), allowed)
        columns[tensor.name] = values
    if offset != len(binary):
        found = f"{len(binary)} bytes"
        raise _refused("", "has other binary data than its tensors", found, f"{offset} bytes")
    return _rows(columns, checks)


def datatype_of(feature: Feature) -> str:
    """The datatype that the model metadata names for a feature."""
    if feature.is_number:
        return "INT64" if feature.type == "integer" and not feature.is_optional else "FP64"
    if feature.type == "boolean":
        return "BOOL"
    return "INT64" if feature.has_integer_categories and not feature.is_optional else "BYTES"


def _rows(columns: Mapping[str, list[Any]], checks: FeatureChecks) -> ReadRows:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        found = ", ".join(map(str, sorted(lengths))) or "no tensor"
        raise _refused("inputs", "differ in length", found, "tensors of one length")
    count = lengths.pop()
    faults = Faults()
    complete: list[list[Any]] = []
    for name, feature in checks.features.items():
        where = f"inputs.{name}"
        if name not in columns and not feature.is_optional:
            faults.add_missing(
                where, "is missing", f"a tensor in which each is {describe(feature)}"
            )
            continue
        values = [cast(one, feature) for one in columns.get(name, [None] * count)]
        for index, value in enumerate(values):
            message = checks.fault(value, feature)
            if message is not None:
                faults.add(f"{where}[{index}]", message, value, describe(feature))
        complete.append(values)
    faults.raise_if_any()
    features = checks.features.values()
    return checks.read_rows(
        [
            [plain(value, feature) for value, feature in zip(row, features, strict=True)]
            for row in zip(*complete, strict=True)
        ]
    )


def _json_values(tensor: InputTensor, where: str) -> list[Any]:
    if isinstance(tensor.data, msgspec.UnsetType):
        raise _refused(f"{where}.data", "is missing", None, "values, in row-major order")
    try:
        data = msgspec.json.decode(tensor.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(f"{where}.data", f"is no list: {error}", None, "a list") from None
    if not isinstance(data, list):
        raise _refused(f"{where}.data", "is no list", shown(data), "a list")
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]


def _binary_values(tensor: InputTensor, data: memoryview) -> list[Any]:
    where = f"inputs.{tensor.name}"
    if tensor.datatype == "BYTES":
        try:
            return list(_texts(data))
        except (struct.error, ValueError):
            allowed = "each text as UTF-8 behind its length, four little-endian bytes"
            raise _refused(where, "is no binary data of BYTES", None, allowed) from None
    element = np.dtype(_BINARY_TYPES[tensor.datatype])
    if len(data) % element.itemsize:
        allowed = f"a multiple of {element.itemsize} bytes"
        raise _refused(where, "is cut off", f"{len(data)} bytes", allowed)
    if tensor.datatype == "BOOL" and any(one > 1 for one in data):
        raise _refused(where, "is no binary data of BOOL", None, "one byte each, 0 or 1")
    values: list[Any] = np.frombuffer(data, element).tolist()
    return values


def _texts(data: memoryview) -> Iterator[str]:
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        start, offset = offset + 4, offset + 4 + length
        if offset > len(data):
            raise ValueError
        yield bytes(data[start:offset]).decode()


def _refused(path: str, message: str, given: str | None, allowed: str) -> Exception:
    return unprocessable([FieldError(path or "the body", message, given, allowed)])
