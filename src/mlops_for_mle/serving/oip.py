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
from typing import Any

import msgspec
import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from msgspec import UNSET, UnsetType
from pydantic import BaseModel

from mlops_for_mle import __version__
from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import is_plain
from mlops_for_mle.releases.predictor import INPUT_NAME, PROBABILITY_OUTPUT
from mlops_for_mle.serving import documents
from mlops_for_mle.serving.codec import Codec, Columns, Rows, encode
from mlops_for_mle.serving.context import Answer, Services, media_type
from mlops_for_mle.serving.context import Request as PlainRequest
from mlops_for_mle.serving.documents import LISTS, REFUSALS, VALUES, kind_of, pieces, quotes_in
from mlops_for_mle.serving.errors import Faults, ProblemError, refused, shown
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
DATATYPES = (*ELEMENT_TYPES, "BYTES")

_HEADER_LENGTH = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_ROWS_A_PART = 5000
_LONGEST_PARAMETERS = 4096


class Tensor(msgspec.Struct, gc=False):
    """One tensor of a request, as it stands in the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | UnsetType = UNSET
    parameters: msgspec.Raw | UnsetType = UNSET


class Output(msgspec.Struct, gc=False):
    """One tensor that a client asks for."""

    name: str
    parameters: msgspec.Raw | UnsetType = UNSET


class Inference(msgspec.Struct):
    """A request; unknown fields are ignored, as the protocol wants."""

    inputs: list[Tensor]
    id: str | UnsetType = UNSET
    parameters: msgspec.Raw | UnsetType = UNSET
    outputs: list[Output] | UnsetType = UNSET


class TensorMetadata(BaseModel):
    """One input or output; -1 in its shape stands for the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model in service; ``parameters`` are the columns of its input and its release."""

    name: str
    versions: list[str]
    platform: str = "onnxruntime_onnx"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]


class ModelReady(BaseModel):
    """Whether the model answers."""

    name: str
    ready: bool


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

    for route, name in zip(INFER, ("model", "version"), strict=True):
        add_hot_route(
            found,
            services,
            route,
            summary="Predict rows given as tensors",
            operation_id=f"{name}_infer",
            responses=unknown | problems(FAILURES | wrong, "InferenceError"),
        )

    async def metadata(request: Request) -> ModelMetadata:
        served = served_by(services)
        _require_model(served, **request.path_params)
        return _metadata(served)

    async def model_ready(request: Request) -> ModelReady:
        served = served_by(services)
        _require_model(served, **request.path_params)
        return ModelReady(name=served.contract.name, ready=obstacle(services) is None)

    for path, name in (("", "model"), ("/versions/{version}", "version")):
        for end, answer, summary, what in (
            ("", metadata, "The model's inputs and outputs", "metadata"),
            ("/ready", model_ready, "Whether the model answers", "ready"),
        ):
            found.add_api_route(
                f"/v2/models/{{model}}{path}{end}",
                answer,
                summary=summary,
                operation_id=f"{name}_{what}",
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


def _metadata(served: Served) -> ModelMetadata:
    contract, target = served.contract, served.contract.target
    inputs = [
        TensorMetadata(name=name, datatype=datatype_of(one), shape=[-1])
        for name, one in contract.features.items()
    ]
    if is_plain(contract):
        inputs = [TensorMetadata(name=INPUT_NAME, datatype="FP64", shape=[-1, len(inputs)])]
    kind = "FP64" if not target.classes else "BYTES" if target.has_text_classes else "INT64"
    outputs = [TensorMetadata(name=target.response_name, datatype=kind, shape=[-1])]
    if target.classes:
        outputs.append(TensorMetadata(name="label", datatype="BYTES", shape=[-1]))
    if served.manifest.has_probabilities:
        kind = "FP32" if served.manifest.precision == "float32" else "FP64"
        shape = [-1, len(target.classes)]
        outputs.append(TensorMetadata(name=PROBABILITY_OUTPUT, datatype=kind, shape=shape))
    return ModelMetadata(
        name=contract.name,
        versions=[str(served.manifest.version)],
        inputs=inputs,
        outputs=outputs,
        parameters={
            "features": list(contract.feature_names),
            "release": served.manifest.release,
        },
    )


def _require_model(served: Served, model: str, version: str | None = None) -> None:
    name, found = served.contract.name, str(served.manifest.version)
    if model != name:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"There is no model {model[:80]!r}; in service is {name!r}"
        )
    if version not in (None, found):
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"There is no version {version[:80]!r} of {name}; in service is {found!r}",
        )


def _read(services: Services, request: PlainRequest) -> Question:
    # The protocol's own clients say nothing of the type.
    media_type(request.headers, "application/json", _OCTETS, may_be_missing=True)
    served = served_by(services)
    _require_model(served, *request.path.split("/")[3:6:2])
    body = request.body
    length = _json_length(request.headers.get(_HEADER_LENGTH), len(body))
    asked, outputs = _decode(body[:length])
    kinds = {one.name: one for one in _metadata(served).outputs}
    by_default = outputs.pop("", False)
    for place, name in enumerate(outputs):
        if name not in kinds:
            raise refused(f"outputs[{place}].name", "is unknown", ", ".join(kinds), name[:80])
    wanted = [(kinds[name], binary) for name, binary in outputs.items()]
    wanted = wanted or [(one, by_default) for one in kinds.values()]
    rows = _rows(served.codec, asked.inputs, memoryview(body)[length:])
    return Question(served, rows, request, partial(_write, asked, wanted))


INFER = (
    HotRoute("/v2/models/{model}/infer", _read),
    HotRoute("/v2/models/{model}/versions/{version}/infer", _read),
)


def _json_length(given: bytes | None, size: int) -> int:
    text = str(size) if given is None else given.decode("latin-1").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) <= size):
        raise refused(
            "Inference-Header-Content-Length",
            "does not fit the body",
            f"the number of bytes of the JSON, at most {size}",
            shown(text),
        )
    return int(text)


def _decode(document: bytes) -> tuple[Inference, dict[str, bool]]:
    """A request, and whether each output that it asks for is binary; that of others under ''."""
    try:
        asked = _decode_inference(document)
    except REFUSALS as error:
        _check_names(document)
        raise refused("the body", f"is no inference request: {error}", "JSON tensors") from None
    given = [] if isinstance(asked.outputs, UnsetType) else asked.outputs
    if sum(map(_quotes_of, (asked, *asked.inputs, *given))) != quotes_in(document):
        _check_names(document)
    by_default = _parameters(asked.parameters, "").get("binary_data_output") is True
    outputs = {"": by_default}
    for one in given:
        asked_for = _parameters(one.parameters, f"outputs.{one.name}.")
        outputs[one.name] = asked_for.get("binary_data", by_default) is True
    return asked, outputs


_decode_inference = msgspec.json.Decoder(Inference).decode


def _check_names(document: bytes) -> None:
    """Refuse a name that is given more than once; others than the protocol's are ignored."""
    fields = documents.object_of(document, Inference.__struct_fields__)
    for kind in ("inputs", "outputs"):
        raw = fields.get(kind, memoryview(b""))
        for place, tensor in enumerate(documents.elements(raw) if kind_of(raw) == b"[" else ()):
            if kind_of(tensor) == b"{":
                documents.fields(tensor, f"{kind}[{place}]", Tensor.__struct_fields__)


def _quotes_of(asked: msgspec.Struct) -> int:
    """The quotes of a usual request; one with other fields has more."""
    values = [one for one in msgspec.structs.astuple(asked) if one is not UNSET]
    texts = sum(isinstance(one, str) for one in values)
    raws = (memoryview(one) for one in values if isinstance(one, msgspec.Raw))
    return 2 * (len(values) + texts) + sum(map(quotes_in, raws))


def _parameters(raw: msgspec.Raw | UnsetType, where: str) -> dict[str, Any]:
    if isinstance(raw, UnsetType):
        return {}
    path, text = f"{where}parameters", memoryview(raw)
    if kind_of(text) != b"{" or len(text) > _LONGEST_PARAMETERS:
        raise refused(path, "is no object", f"an object of at most {_LONGEST_PARAMETERS} bytes")
    found = {name: documents.value(one) for name, one in documents.fields(text, path).items()}
    for name in ("shared_memory_region", "classification"):
        if name in found:
            raise refused(f"{path}.{name}", "is an extension that is not there", "JSON tensors")
    return found


def _rows(codec: Codec, inputs: Sequence[Tensor], binary: memoryview) -> Rows:
    given = _given(inputs, binary)
    shapes = {one.name: one.shape for one in inputs}
    width = len(codec.names)
    if len(inputs) == 1 and inputs[0].shape[1:] == [width] and inputs[0].name not in codec.features:
        return _matrix_rows(codec, inputs[0], given[inputs[0].name])
    allowed = f"a tensor of shape [rows] for each of {', '.join(codec.names)}"
    for name, shape in shapes.items():
        if name not in codec.features:
            raise refused(f"inputs.{name}", "is unknown", allowed, f"shape {shape}")
        if shape[1:] not in ([], [1]):
            raise refused(f"inputs.{name}.shape", "is no shape", "[rows] or [rows, 1]", str(shape))
    flat = {name: _flat(one, f"inputs.{name}") for name, one in given.items()}
    rows = codec.read_columns(flat, "inputs")
    for name, (count, *_) in shapes.items():
        _check_size(f"inputs.{name}", rows.count, count)
    return rows


def _given(inputs: Sequence[Tensor], binary: memoryview) -> dict[str, Any]:
    """The values of each tensor, or their JSON."""
    given: dict[str, Any] = {}
    offset = 0
    for tensor in inputs:
        where = f"inputs.{tensor.name}"
        if tensor.name in given:
            raise refused(where, "is given more than once", "each name once")
        if tensor.datatype not in DATATYPES:
            allowed = ", ".join(DATATYPES)
            raise refused(f"{where}.datatype", "is unknown", allowed, shown(tensor.datatype))
        if not tensor.shape or min(tensor.shape) < 1 or len(tensor.shape) > 8:
            allowed = "[rows] or [rows, features], with at least one row"
            raise refused(f"{where}.shape", "is no shape", allowed, str(tensor.shape)[:80])
        size = _parameters(tensor.parameters, f"{where}.").get("binary_data_size")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(binary) - offset:
                allowed = "the bytes of the tensor, all of them behind the JSON"
                path = f"{where}.parameters.binary_data_size"
                raise refused(path, "does not fit", allowed, shown(size))
            given[tensor.name] = _binary_values(tensor, where, binary[offset : offset + size])
            offset += size
        elif isinstance(tensor.data, UnsetType):
            raise refused(f"{where}.data", "is missing", "values, in row-major order")
        else:
            given[tensor.name] = memoryview(tensor.data)
    if offset != len(binary):
        found = f"{len(binary)} bytes"
        what = "has other binary data than its tensors"
        raise refused("the body", what, f"{offset} bytes", found)
    return given


def _check_size(where: str, found: int, expected: int) -> None:
    if found != expected:
        allowed = f"{expected}, as the shape says"
        raise refused(f"{where}.data", "has another size", allowed, str(found))


def _flat(given: Any, where: str) -> Any:
    """The values of a tensor of one value a row, each of which may stand in a list of its own."""
    if isinstance(given, memoryview) and documents.first_of(given) == b"[":
        try:
            return [one for piece in pieces(given, LISTS) for (one,) in _decode_lists(piece)]
        except (msgspec.MsgspecError, ValueError):
            raise refused(f"{where}.data", "is no list of values", "one value a row") from None
    return given


_decode_lists = msgspec.json.Decoder(list[list[Any]]).decode
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_decode_rows = msgspec.json.Decoder(list[list[float]]).decode


def _matrix_rows(codec: Codec, tensor: Tensor, given: Any) -> Rows:
    """Rows by features, which only numbers can be given as."""
    where = f"inputs.{tensor.name}"
    if tensor.datatype in {"BYTES", "BOOL"}:
        raise refused(f"{where}.datatype", "is no number", ", ".join(ELEMENT_TYPES))
    if isinstance(given, memoryview):
        is_nested = documents.first_of(given) == b"["
        boundary, decode = (LISTS, _decode_rows) if is_nested else (VALUES, _decode_numbers)
        try:
            parts = [np.array(decode(one), np.float64).ravel() for one in pieces(given, boundary)]
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refused(f"{where}.data", f"is no list of numbers: {error}", "numbers") from None
        given = np.concatenate(parts)
    _check_size(where, len(given), math.prod(tensor.shape))
    matrix = np.asarray(given, np.float64).reshape(tensor.shape)
    faults = Faults()

    def parts_of(start: int) -> Columns:
        part = matrix[start : start + _ROWS_A_PART]
        columns = dict(zip(codec.names, part.T.tolist(), strict=True))
        return codec.fit(
            columns, len(part), lambda name, row: f"inputs[{start + row}].{name}", faults
        )

    rows = codec.rows(map(parts_of, range(0, len(matrix), _ROWS_A_PART)))
    faults.raise_if_any()
    return rows


def _binary_values(tensor: Tensor, where: str, data: memoryview) -> Any:
    if tensor.datatype == "BYTES":
        try:
            values: list[Any] = list(_texts(data))
        except (struct.error, ValueError):
            allowed = "each text as UTF-8 behind its length, four little-endian bytes"
            raise refused(where, "is no binary data of BYTES", allowed) from None
    else:
        element = np.dtype(ELEMENT_TYPES[tensor.datatype])
        if len(data) % element.itemsize:
            raise refused(where, "is cut off", f"a multiple of {element.itemsize} bytes")
        if tensor.datatype == "BOOL" and any(one > 1 for one in data):
            raise refused(where, "is no binary data of BOOL", "one byte each, 0 or 1")
        values = np.frombuffer(data, element).tolist()
    _check_size(where, len(values), math.prod(tensor.shape))
    return values


def _texts(data: memoryview) -> Iterator[str]:
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        start, offset = offset + 4, offset + 4 + length
        if offset > len(data):
            raise ValueError("cut off")
        yield bytes(data[start:offset]).decode()


def _write(
    asked: Inference, wanted: Sequence[tuple[TensorMetadata, bool]], answered: Answered
) -> Answer:
    served = answered.question.served
    tensors, parts = [], []
    for kind, is_binary in wanted:
        shape = [answered.question.rows.count, *kind.shape[1:]]
        tensor: dict[str, Any] = {"name": kind.name, "datatype": kind.datatype, "shape": shape}
        values = _output(kind, answered)
        if is_binary:
            parts.append(_packed(kind.datatype, values))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = values
        tensors.append(tensor)
    document = {
        "model_name": served.contract.name,
        "model_version": str(served.manifest.version),
        "id": answered.prediction_id if asked.id in (UNSET, "") else asked.id,
        "parameters": {
            "prediction_id": answered.prediction_id,
            "release": served.manifest.release,
        },
        "outputs": tensors,
    }
    head = encode(document)
    if not parts:
        return Answer(head)
    length = (_HEADER_LENGTH, b"%d" % len(head))
    return Answer(b"".join((head, *parts)), _OCTETS.encode(), headers=(length,))


def _output(kind: TensorMetadata, answered: Answered) -> list[Any]:
    target, predictions = answered.question.served.contract.target, answered.predictions
    if kind.name == PROBABILITY_OUTPUT and predictions.probabilities is not None:
        numbers: list[Any] = predictions.probabilities.ravel().tolist()
        return numbers
    texts = target.labels if kind.name == "label" else target.values
    codes: list[Any] = predictions.values.tolist()
    return [texts[code] for code in codes] if kind.datatype == "BYTES" else codes


def _packed(datatype: str, values: list[Any]) -> bytes:
    if datatype != "BYTES":
        return np.array(values, ELEMENT_TYPES[datatype]).tobytes()
    encoded = [str(one).encode() for one in values]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


def operations(served: Served) -> dict[str, Schema]:
    """What the document says of inference, for a release."""
    parameters = {"type": "object"}
    text, numbers = {"type": "string"}, {"type": "array", "items": {"type": "integer"}}
    values = {"type": "array", "items": {}}
    tensor = {
        "type": "object",
        "properties": {
            "name": text,
            "shape": numbers | {"minItems": 1},
            "datatype": {"enum": list(DATATYPES)},
            "parameters": parameters,
            "data": values,
        },
        "required": ["name", "shape", "datatype"],
    }
    output = {
        "type": "object",
        "properties": {"name": text, "parameters": parameters},
        "required": ["name"],
    }
    fields = {"id": text, "parameters": parameters}
    asked = {
        "inputs": {"type": "array", "items": tensor, "minItems": 1},
        "outputs": {"type": "array", "items": output},
    }
    answered = {"model_name": text, "model_version": text, **fields}
    given = example_row(served.contract)
    tensors = [
        {"name": name, "shape": [1], "datatype": datatype_of(one), "data": [given[name]]}
        for name, one in served.contract.features.items()
    ]
    request = json_request(
        {"type": "object", "properties": fields | asked, "required": ["inputs"]},
        a_tensor_for_each_feature={"inputs": tensors},
    )
    answer = json_answer(
        "The outputs",
        {
            "type": "object",
            "properties": answered | {"outputs": {"type": "array", "items": tensor}},
            "required": [*answered, "outputs"],
        },
        Inference_Header_Content_Length="The bytes of the JSON, where binary data follows it",
    )
    for one in (request["requestBody"], answer):
        one["content"][_OCTETS] = {"schema": {"type": "string", "format": "binary"}}
    return {one.path: {"request": request, "answer": answer} for one in INFER}
