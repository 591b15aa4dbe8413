"""The Open Inference Protocol, version 2, over REST: health, metadata and inference.

The model is named by its contract and versioned as in the registry; only the version of the
release in service is there. Tensors stand in the JSON or, by the binary tensor data extension,
behind it. A contract of plain numbers takes one tensor of rows by features; every contract takes a
tensor for each feature, which is what MLServer's pandas codec makes of a frame.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from mlops_for_mle import __version__
from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import Matrix, Values, is_plain
from mlops_for_mle.releases.predictor import INPUT_NAME, PROBABILITY_OUTPUT
from mlops_for_mle.serving.codec import Codec, Rows
from mlops_for_mle.serving.context import Answer, Services, media_type
from mlops_for_mle.serving.context import Request as PlainRequest
from mlops_for_mle.serving.documents import (
    LISTS,
    REFUSALS,
    VALUES,
    Text,
    encode,
    first_of,
    pieces,
    read_json,
    typed,
)
from mlops_for_mle.serving.errors import ProblemError, refused, shown
from mlops_for_mle.serving.health import obstacle
from mlops_for_mle.serving.openapi import Schema, example_row, json_answer, json_request, problems
from mlops_for_mle.serving.predict import (
    FAILURES,
    Answered,
    HotRoute,
    Question,
    add_hot_route,
    served_by,
)
from mlops_for_mle.serving.releases import Served

# Element types of the protocol by their names; binary data is little-endian.
ELEMENT_TYPES = {
    "FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "INT64": "<i8", "INT32": "<i4", "INT16": "<i2",
    "INT8": "<i1", "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2", "UINT8": "<u1", "BOOL": "|b1",
}  # fmt: skip

_HEADER_LENGTH = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_LONGEST_PARAMETERS = 4096

_Optional = msgspec.Raw | msgspec.UnsetType


class _Parameters(msgspec.Struct):
    binary_data_output: bool | msgspec.UnsetType = msgspec.UNSET
    binary_data: bool | msgspec.UnsetType = msgspec.UNSET
    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET
    shared_memory_region: _Optional = msgspec.UNSET
    classification: _Optional = msgspec.UNSET


class _Tensor(msgspec.Struct):
    name: str
    shape: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1)]], msgspec.Meta(min_length=1, max_length=8)
    ]
    datatype: Literal[(*ELEMENT_TYPES, "BYTES")]  # type: ignore[valid-type]
    parameters: _Optional = msgspec.UNSET
    data: _Optional = msgspec.UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: _Optional = msgspec.UNSET


class _Body(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | msgspec.UnsetType = msgspec.UNSET
    parameters: _Optional = msgspec.UNSET
    outputs: list[_Output] | msgspec.UnsetType = msgspec.UNSET


_BODY = msgspec.json.Decoder(_Body)
_PARAMETERS = msgspec.json.Decoder(_Parameters)
_decode_lists = msgspec.json.Decoder(list[list[Any]]).decode
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_decode_rows = msgspec.json.Decoder(list[list[float]]).decode


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["open inference protocol"])
    unknown = problems(
        {"404": "No such model or version", "503": "No release is loaded"}, "InferenceError"
    )
    wrong = {"400": "The request is none of the protocol or does not fit the contract"}

    @found.get("/v2", summary="The server", operation_id="server_metadata")
    async def server() -> dict[str, Any]:
        return {
            "name": "mlops-for-mle",
            "version": __version__,
            "extensions": ["binary_tensor_data"],
        }

    @found.get("/v2/health/live", summary="Whether the process answers", operation_id="server_live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @found.get(
        "/v2/health/ready",
        summary="Whether inference requests are answered",
        operation_id="server_ready",
        responses={503: {"description": "They are not"}},
        response_model=dict[str, bool],
    )
    async def ready() -> JSONResponse:
        is_ready = obstacle(services) is None
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def metadata(request: Request) -> dict[str, Any]:
        return _metadata(_served_as(services, **request.path_params))

    async def model_ready(request: Request) -> dict[str, Any]:
        served = _served_as(services, **request.path_params)
        return {"name": served.contract.name, "ready": obstacle(services) is None}

    for route, name in zip(INFER, ("model", "version"), strict=True):
        path = route.path.removesuffix("/infer")
        add_hot_route(
            found,
            services,
            route,
            summary="Predict rows given as tensors",
            operation_id=f"{name}_infer",
            responses=unknown | problems(FAILURES | wrong, "InferenceError"),
        )
        found.add_api_route(
            path,
            metadata,
            summary="The model's inputs and outputs",
            operation_id=f"{name}_metadata",
            responses=unknown,
        )
        found.add_api_route(
            f"{path}/ready",
            model_ready,
            summary="Whether the model answers",
            operation_id=f"{name}_ready",
            responses=unknown,
        )
    return found


def datatype_of(feature: Feature) -> str:
    """The datatype that the model metadata names for a feature."""
    is_whole = feature.type == "integer" or feature.has_integer_categories
    if is_whole and not feature.is_optional:
        return "INT64"
    if feature.is_number:
        return "FP64"
    return "BOOL" if feature.type == "boolean" else "BYTES"


def _metadata(served: Served) -> dict[str, Any]:
    contract, manifest = served.contract, served.manifest
    inputs = [_tensor(name, datatype_of(one)) for name, one in contract.features.items()]
    if is_plain(contract):
        inputs = [_tensor(INPUT_NAME, "FP64", len(inputs))]
    return {
        "name": contract.name,
        "versions": [str(manifest.version)],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": _outputs(served),
        "parameters": {"features": contract.feature_names, "release": manifest.release},
    }


def _outputs(served: Served) -> list[dict[str, Any]]:
    target = served.contract.target
    kind = "FP64" if not target.classes else "BYTES" if target.has_text_classes else "INT64"
    outputs = [_tensor(target.response_name, kind)]
    if target.classes:
        outputs.append(_tensor("label", "BYTES"))
    if served.manifest.has_probabilities:
        kind = "FP32" if served.manifest.precision == "float32" else "FP64"
        outputs.append(_tensor(PROBABILITY_OUTPUT, kind, len(target.classes)))
    return outputs


def _tensor(name: str, datatype: str, *width: int) -> dict[str, Any]:
    """What is told of a tensor; -1 stands for the number of rows."""
    return {"name": name, "datatype": datatype, "shape": [-1, *width]}


def _served_as(services: Services, model: str, version: str | None = None) -> Served:
    """The release in service, which must have a name and a version.

    Raises:
        ProblemError: 404, it has others; 503, there is none.
    """
    served = served_by(services)
    name, number = served.contract.name, str(served.manifest.version)
    if model != name:
        detail = f"There is no model {model[:80]!r}; in service is {name!r}"
        raise ProblemError(HTTPStatus.NOT_FOUND, detail)
    if version not in (None, number):
        detail = f"There is no version {version[:80]!r} of {name}; in service is {number!r}"
        raise ProblemError(HTTPStatus.NOT_FOUND, detail)
    return served


def _read(services: Services, request: PlainRequest) -> Question:
    # The protocol's own clients say nothing of the type.
    media_type(request.headers, "application/json", _OCTETS, may_be_missing=True)
    served = _served_as(services, *request.path.split("/")[3:6:2])
    length = _json_length(request.headers.get(_HEADER_LENGTH), len(request.body))
    head, binary = request.body[:length], memoryview(request.body)[length:]
    return read_json(head, lambda text: _question(served, request, text, binary), "a request")


def _question(served: Served, request: PlainRequest, text: bytes, binary: memoryview) -> Question:
    body = typed(text, _BODY)
    by_default = _parameters(body, "").binary_data_output or False
    rows = _rows(served.codec, body.inputs, binary)
    kinds = {one["name"]: one for one in _outputs(served)}
    wanted = []
    for place, one in enumerate(body.outputs or ()):
        if one.name not in kinds:
            path = f"outputs[{place}].name"
            raise refused(path, "is unknown", ", ".join(kinds), shown(one.name))
        is_binary = _parameters(one, f"outputs[{place}].").binary_data
        wanted.append((kinds[one.name], by_default if is_binary is msgspec.UNSET else is_binary))
    wanted = wanted or [(one, by_default) for one in kinds.values()]
    return Question(served, rows, request, partial(_write, body.id or "", wanted))


INFER = (
    HotRoute("/v2/models/{model}/infer", _read),
    HotRoute("/v2/models/{model}/versions/{version}/infer", _read),
)


def _json_length(given: bytes | None, size: int) -> int:
    try:
        length = size if given is None else int(given)
    except ValueError:
        length = -1
    if not 0 <= length <= size:
        allowed = f"the number of bytes of the JSON, at most {size}"
        raise refused("Inference-Header-Content-Length", "does not fit the body", allowed)
    return length


def _parameters(given: _Body | _Tensor | _Output, where: str) -> _Parameters:
    if given.parameters is msgspec.UNSET:
        return _Parameters()
    path, text = f"{where}parameters", memoryview(given.parameters)
    if len(text) > _LONGEST_PARAMETERS:
        raise refused(path, "is too long", f"at most {_LONGEST_PARAMETERS} bytes")
    found = typed(text, _PARAMETERS, path)
    for name in ("shared_memory_region", "classification"):
        if getattr(found, name) is not msgspec.UNSET:
            raise refused(f"{path}.{name}", "is an extension that is not there", "JSON tensors")
    return found


def _rows(codec: Codec, tensors: Sequence[_Tensor], binary: memoryview) -> Rows:
    given = _values(tensors, binary)
    for one in tensors:
        is_matrix = len(tensors) == 1 and one.shape[1:] == [len(codec.names)]
        if is_matrix and one.name not in codec.features:
            columns = zip(codec.names, _matrix(one, given[one.name]).T, strict=True)
            return codec.read_columns(dict(columns), "inputs")
        if one.name not in codec.features:
            allowed = f"a tensor of shape [rows] for each of {', '.join(codec.names)}"
            raise refused(f"inputs.{one.name}", "is unknown", allowed, f"shape {one.shape}")
        if one.shape[1:] not in ([], [1]):
            allowed = "[rows] or [rows, 1]"
            raise refused(f"inputs.{one.name}.shape", "is no shape", allowed, str(one.shape))
    rows = codec.read_columns({name: _flat(one) for name, one in given.items()}, "inputs")
    for one in tensors:
        _check_size(one, rows.count)
    return rows


def _values(tensors: Sequence[_Tensor], binary: memoryview) -> dict[str, Text | Values]:
    """The values of each tensor: JSON, or what stands in its part of the binary data."""
    found: dict[str, Text | Values] = {}
    offset = 0
    for one in tensors:
        where = f"inputs.{one.name}"
        if one.name in found:
            raise refused(where, "is given more than once", "each name once")
        size = _parameters(one, f"{where}.").binary_data_size
        if size is not msgspec.UNSET:
            if size > len(binary) - offset:
                allowed = "the bytes of the tensor, all of them behind the JSON"
                path = f"{where}.parameters.binary_data_size"
                raise refused(path, "does not fit", allowed, shown(size))
            found[one.name] = _binary_values(one, binary[offset : offset + size])
            offset += size
        elif one.data is msgspec.UNSET:
            raise refused(f"{where}.data", "is missing", "values, in row-major order")
        else:
            found[one.name] = memoryview(one.data)
    if offset != len(binary):
        what = "has other binary data than its tensors"
        raise refused("the body", what, f"{offset} bytes", f"{len(binary)} bytes")
    return found


def _check_size(tensor: _Tensor, found: int) -> None:
    if found != math.prod(tensor.shape):
        allowed = f"{math.prod(tensor.shape)}, as the shape says"
        raise refused(f"inputs.{tensor.name}.data", "has another size", allowed, str(found))


def _flat(given: Text | Values) -> Text | Values:
    """The values of a tensor of one value a row, each of which may stand in a list of its own."""
    if isinstance(given, Text) and first_of(given) == b"[":
        return [
            one for piece in pieces(given, LISTS) for row in _decode_lists(piece) for one in row
        ]
    return given


def _matrix(tensor: _Tensor, given: Text | Values) -> Matrix:
    """Rows by features, which only numbers can be given as."""
    where = f"inputs.{tensor.name}"
    if tensor.datatype in {"BYTES", "BOOL"}:
        raise refused(f"{where}.datatype", "is no number", ", ".join(ELEMENT_TYPES))
    parts: list[Any] = [given]
    if isinstance(given, Text):
        is_nested = first_of(given) == b"["
        boundary, decode = (LISTS, _decode_rows) if is_nested else (VALUES, _decode_numbers)
        try:
            parts = [np.array(decode(one), np.float64).ravel() for one in pieces(given, boundary)]
        except (*REFUSALS, ValueError) as error:
            raise refused(f"{where}.data", f"is no list of numbers: {error}", "numbers") from None
    numbers = np.concatenate(parts, dtype=np.float64)
    _check_size(tensor, len(numbers))
    return numbers.reshape(tensor.shape)


def _binary_values(tensor: _Tensor, data: memoryview) -> Values:
    where = f"inputs.{tensor.name}"
    values: Values
    if tensor.datatype == "BYTES":
        try:
            values = list(_texts(data))
        except (struct.error, ValueError):
            allowed = "each text as UTF-8 behind its length, four little-endian bytes"
            raise refused(where, "is no binary data of BYTES", allowed) from None
    else:
        element = np.dtype(ELEMENT_TYPES[tensor.datatype])
        if len(data) % element.itemsize:
            raise refused(where, "is cut off", f"a multiple of {element.itemsize} bytes")
        values = np.frombuffer(data, element)
    _check_size(tensor, len(values))
    return values


def _texts(data: memoryview) -> Iterator[str]:
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        start, offset = offset + 4, offset + 4 + length
        if offset > len(data):
            raise ValueError("cut off")
        yield bytes(data[start:offset]).decode()


def _write(name: str, wanted: Sequence[tuple[dict[str, Any], bool]], answered: Answered) -> Answer:
    served, count = answered.question.served, answered.question.rows.count
    tensors, parts = [], []
    for kind, is_binary in wanted:
        tensor = kind | {"shape": [count, *kind["shape"][1:]]}
        values = _output(kind, answered)
        if is_binary:
            parts.append(_packed(kind["datatype"], values))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = values
        tensors.append(tensor)
    head = encode(
        {
            "model_name": served.contract.name,
            "model_version": str(served.manifest.version),
            "id": name or answered.prediction_id,
            "parameters": {
                "prediction_id": answered.prediction_id,
                "release": served.manifest.release,
            },
            "outputs": tensors,
        }
    )
    if not parts:
        return Answer(head)
    length = (_HEADER_LENGTH, b"%d" % len(head))
    return Answer(b"".join((head, *parts)), _OCTETS.encode(), headers=(length,))


def _output(kind: dict[str, Any], answered: Answered) -> list[Any]:
    target, predictions = answered.question.served.contract.target, answered.predictions
    if kind["name"] == PROBABILITY_OUTPUT and predictions.probabilities is not None:
        numbers: list[Any] = predictions.probabilities.ravel().tolist()
        return numbers
    texts = target.labels if kind["name"] == "label" else target.values
    codes: list[Any] = predictions.values.tolist()
    return [texts[code] for code in codes] if kind["datatype"] == "BYTES" else codes


def _packed(datatype: str, values: list[Any]) -> bytes:
    if datatype != "BYTES":
        return np.array(values, ELEMENT_TYPES[datatype]).tobytes()
    encoded = [str(one).encode() for one in values]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def operations(served: Served) -> dict[str, Schema]:
    """What the document says of inference, for a release; the protocol itself says more."""
    tensors = [
        {"name": name, "shape": [1], "datatype": datatype_of(one), "data": [value]}
        for (name, one), value in zip(
            served.contract.features.items(), example_row(served.contract).values(), strict=True
        )
    ]
    inputs, outputs = ({one: {"type": "array", "minItems": 1}} for one in ("inputs", "outputs"))
    request = json_request(
        {"type": "object", "properties": inputs, "required": ["inputs"]},
        a_tensor_for_each_feature={"inputs": tensors},
    )
    answer = json_answer(
        "The outputs",
        {"type": "object", "properties": outputs, "required": ["outputs"]},
        Inference_Header_Content_Length="The bytes of the JSON, where binary data follows it",
    )
    for one in (request["requestBody"], answer):
        one["content"][_OCTETS] = {"schema": {"type": "string", "format": "binary"}}
    return {one.path: {"request": request, "answer": answer} for one in INFER}
