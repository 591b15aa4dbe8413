"""Reads the requests of the Open Inference Protocol, version 2, over REST.

Tensors stand in the JSON or, by the binary tensor data extension, behind it. The rows are one
tensor of rows by features, or one tensor of values for each feature by its name; only the latter
where a contract has more than plain numbers.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract
from mlops_for_mle.predictor import INPUT_NAME
from mlops_for_mle.release import Precision
from mlops_for_mle.serving.formats.documents import parse_json, refuse_repeated_keys
from mlops_for_mle.serving.formats.feature_checks import Faults, FeatureChecks, Matrix, describe
from mlops_for_mle.serving.formats.feature_tensors import read_feature_tensors
from mlops_for_mle.serving.formats.tensor_elements import ELEMENT_TYPES, InputTensor, count_of
from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable

_LARGE_DATA_BYTES = 256

_SHARED_MEMORY = "shared_memory_region"
_CLASSIFICATION = "classification"


class OutputRequest(msgspec.Struct):
    """One tensor that a client asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(msgspec.Struct):
    """A request, as it stands in the JSON; unknown fields are ignored, as the protocol wants."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[OutputRequest] = []


class ReadRequest(NamedTuple):
    """A request with its rows.

    Attributes:
        request: As it stands in the JSON.
        rows: As the contract's encoding gives them.
        given: Their plain values; None where the matrix holds them.
    """

    request: InferenceRequest
    rows: Matrix
    given: list[list[Any]] | None = None


_decode_request = msgspec.json.Decoder(InferenceRequest).decode
_decode_flat = msgspec.json.Decoder(list[float]).decode
_decode_nested = msgspec.json.Decoder(list[list[float]]).decode


class TensorReader:
    """Turns requests into matrices of rows by features."""

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for the rows of a contract and a model that computes in this precision."""
        self._features = contract.features
        self._width = len(contract.features)
        self._checks = FeatureChecks(contract, precision)

    def read(self, body: bytes, header_length: bytes | None) -> ReadRequest:
        """Read a request.

        Args:
            body: JSON, with binary tensor data behind it if there is any.
            header_length: The header ``Inference-Header-Content-Length``: the bytes of the JSON.

        Raises:
            ProblemError: 422, it is no request of the protocol or does not fit the contract.
        """
        length = _header_length(header_length, len(body))
        document = body[:length] if length < len(body) else body
        try:
            request = _decode_request(document)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            refuse_repeated_keys(parse_json(document))
            raise _refused("", f"is no inference request: {error}", None, "JSON tensors") from None
        except RecursionError:
            raise _refused("", "is nested too deeply", None, "JSON tensors") from None
        # msgspec takes the last of equal keys, which leaves the quotes of the others unexplained.
        if _quotes_of(request) != document.count(b'"'):
            refuse_repeated_keys(parse_json(_without_data(document, request.inputs)))
        _refuse_extensions(request)
        if not self._checks.are_plain:
            read = read_feature_tensors(request.inputs, memoryview(body)[length:], self._checks)
            return ReadRequest(request, read.matrix, read.given)
        tensors = _decode_tensors(request.inputs, memoryview(body)[length:])
        rows = self._rows(tensors)
        if not self._checks.accept(rows):
            self._explain(rows)
        return ReadRequest(request, rows)

    def _rows(self, tensors: dict[str, npt.NDArray[Any]]) -> Matrix:
        if len(tensors) == 1:
            (tensor,) = tensors.values()
            if tensor.ndim == 2 and tensor.shape[1] == self._width:
                return tensor.astype(np.float64)
        names = ", ".join(self._features)
        allowed = (
            f"one tensor {INPUT_NAME} of shape [rows, {self._width}], or a tensor of shape [rows] "
            f"for each of {names}"
        )
        faults = Faults()
        for name in self._features:
            if name not in tensors:
                faults.add_missing(f"inputs.{name}", "is missing", allowed)
        for name, tensor in tensors.items():
            shape = list(tensor.shape)
            if name not in self._features:
                faults.add_missing(f"inputs.{name}", "is unknown", allowed, f"shape {shape}")
            elif tensor.ndim != 1 and shape[1:] != [1]:
                faults.add_missing(f"inputs.{name}", "has another shape", allowed, str(shape))
        faults.raise_if_any()
        columns = [tensors[name].reshape(-1).astype(np.float64) for name in self._features]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            found = ", ".join(map(str, sorted(lengths)))
            raise _refused("inputs", "differ in length", found, "tensors of one length")
        return np.array(columns).T

    def _explain(self, rows: Matrix) -> None:
        faults = Faults()
        for index, row in enumerate(rows.tolist()):
            for value, (name, feature) in zip(row, self._features.items(), strict=True):
                message = self._checks.fault(value, feature)
                if message is not None:
                    faults.add(f"inputs[{index}].{name}", message, value, describe(feature))
        faults.raise_if_any()


def _quotes_of(request: InferenceRequest) -> int:
    """How many quotes are around the keys and texts of a usual request; others have more."""
    strings = 1 + (2 if request.id else 0) + _strings_of(request.parameters)
    for tensor in request.inputs:
        strings += 5 + (tensor.data is not msgspec.UNSET) + _strings_of(tensor.parameters)
    for output in request.outputs:
        strings += 2 + _strings_of(output.parameters)
    return 2 * (strings + bool(request.outputs))


def _strings_of(parameters: dict[str, Any]) -> int:
    if not parameters:
        return 0
    return 1 + len(parameters) + sum(isinstance(one, str) for one in parameters.values())


def _without_data(document: bytes, inputs: list[InputTensor]) -> bytes:
    """The JSON without the numbers of large tensors, which are most of it."""
    for tensor in inputs:
        if tensor.data is not msgspec.UNSET:
            data = bytes(tensor.data)
            if len(data) > _LARGE_DATA_BYTES:
                document = document.replace(data, b"0", 1)
    return document


def _header_length(given: bytes | None, size: int) -> int:
    if given is None:
        return size
    text = given.decode("latin-1").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > size:
        raise _refused(
            "Inference-Header-Content-Length",
            "does not fit the body",
            shown(text),
            f"the number of bytes of the JSON, at most {size}",
        )
    return int(text)


def _refuse_extensions(request: InferenceRequest) -> None:
    for kind, tensors in (("inputs", request.inputs), ("outputs", request.outputs)):
        for tensor in tensors:
            for name in (_SHARED_MEMORY, _CLASSIFICATION):
                if name in tensor.parameters:
                    where = f"{kind}.{tensor.name}.parameters.{name}"
                    raise _refused(where, "is an extension that is not there", None, "JSON tensors")


def _decode_tensors(inputs: list[InputTensor], binary: memoryview) -> dict[str, npt.NDArray[Any]]:
    """The tensors by their names.

    Raises:
        ProblemError: 422.
    """
    tensors: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for tensor in inputs:
        where = f"inputs.{tensor.name}"
        if tensor.name in tensors:
            raise _refused(where, "is given more than once", None, "each name once")
        if tensor.datatype not in ELEMENT_TYPES:
            allowed = ", ".join(ELEMENT_TYPES)
            raise _refused(f"{where}.datatype", "is no number", shown(tensor.datatype), allowed)
        if not tensor.shape or min(tensor.shape) < 1 or len(tensor.shape) > 8:
            allowed = "[rows, features] with at least one row"
            raise _refused(f"{where}.shape", "is no shape", str(tensor.shape)[:80], allowed)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            values = _json_values(tensor, where)
        else:
            values = _binary_values(tensor, where, size, binary[offset:])
            offset += size
        tensors[tensor.name] = values
    if offset != len(binary):
        found = f"{len(binary)} bytes"
        raise _refused("", "has other binary data than its tensors", found, f"{offset} bytes")
    return tensors


def _binary_values(
    tensor: InputTensor, where: str, size: Any, binary: memoryview
) -> npt.NDArray[Any]:
    element = np.dtype(ELEMENT_TYPES[tensor.datatype])
    expected = count_of(tensor.shape) * element.itemsize
    if type(size) is not int or size != expected or size > len(binary):
        allowed = f"{expected} bytes, as the shape says, all of them behind the JSON"
        raise _refused(f"{where}.parameters.binary_data_size", "does not fit", shown(size), allowed)
    return np.frombuffer(binary[:size], element).reshape(tensor.shape)


def _json_values(tensor: InputTensor, where: str) -> npt.NDArray[Any]:
    if isinstance(tensor.data, msgspec.UnsetType):
        raise _refused(f"{where}.data", "is missing", None, "numbers, in row-major order")
    try:
        try:
            values = np.array(_decode_flat(tensor.data), np.float64)
        except msgspec.ValidationError:
            values = np.array(_decode_nested(tensor.data), np.float64).reshape(-1)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        message = f"is no list of numbers: {error}"
        raise _refused(f"{where}.data", message, None, "numbers") from None
    expected = count_of(tensor.shape)
    if len(values) != expected:
        allowed = f"{expected}, as the shape says"
        raise _refused(f"{where}.data", "has another size", str(len(values)), allowed)
    return values.reshape(tensor.shape)


def _refused(path: str, message: str, given: str | None, allowed: str) -> Exception:
    return unprocessable([FieldError(path or "the body", message, given, allowed)])
