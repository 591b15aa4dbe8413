"""The Open Inference Protocol, version 2, over REST: health, metadata and inference.

The model is named by its contract and versioned as in the registry; only the version of the
release in service is there. Tensors stand in the JSON or, by the binary tensor data extension,
behind it. A contract of plain numbers takes one tensor of rows by features; every contract takes a
tensor for each feature, which is what MLServer's pandas codec makes of a frame.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, count
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from fastapi import APIRouter

from mlops_for_mle import __version__
from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import is_plain
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.releases.predictor import INPUT_NAME, PROBABILITY_OUTPUT
from mlops_for_mle.serving import predict
from mlops_for_mle.serving.codec import MAX_ROWS, Codec, Form, RawValues, Rows, RowsReader
from mlops_for_mle.serving.context import CONTENT_TYPE, media_type
from mlops_for_mle.serving.documents import CHUNK, VALUES, read_json, split_list
from mlops_for_mle.serving.errors import Answer, ProblemError, refused, shown
from mlops_for_mle.serving.health import require_ready
from mlops_for_mle.serving.openapi import OBJECT, TEXT, json_answer, json_request, object_of
from mlops_for_mle.serving.predict import Inference, Part
from mlops_for_mle.serving.releases import ServedRelease
from mlops_for_mle.serving.request import Request
from mlops_for_mle.serving.services import Services

# Element types of the protocol by their names; little-endian.
ELEMENT_TYPES = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "BOOL": "|b1"}
ELEMENT_TYPES |= {f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)}
ELEMENT_TYPES |= {f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)}

_HEADER_LENGTH = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_Size = Annotated[int, msgspec.Meta(ge=1)]


class _Parameters(msgspec.Struct, frozen=True):
    """The parameters that are known; others are ignored."""

    binary_data_output: bool | None = None
    binary_data: bool | None = None
    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _Tensor(msgspec.Struct):
    name: str
    shape: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=2)]
    datatype: Literal[(*ELEMENT_TYPES, "BYTES")]  # type: ignore[valid-type]
    parameters: _Parameters | None = None
    data: msgspec.Raw = msgspec.Raw(b"[]")

    def __post_init__(self) -> None:
        self.name = normalised(self.name)


class _Output(msgspec.Struct):
    name: str
    parameters: _Parameters | None = None


class _Body(msgspec.Struct):
    """A request; MLServer's own types write null for what they do not say."""

    inputs: list[_Tensor]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


_BODY = msgspec.json.Decoder(_Body)
_decode_numbers = msgspec.json.Decoder(list[float]).decode


def router(services: Services) -> APIRouter:
    """The routes."""
    wrong = json_answer("What is wrong", object_of({"error": TEXT}))
    tensors = json_answer("The outputs; as octets where they were asked for", OBJECT)
    tensors["content"][_OCTETS] = {}
    routes = APIRouter(tags=["open inference protocol"], responses={"default": wrong})

    @routes.get("/v2", summary="The server")
    async def server() -> dict[str, Any]:
        extensions = ["binary_tensor_data"]
        return {"name": "mlops-for-mle", "version": __version__, "extensions": extensions}

    @routes.get("/v2/health/live", summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/v2/health/ready", summary="Whether inference requests are answered")
    async def ready() -> dict[str, bool]:
        require_ready(services)
        return {"ready": True}

    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        return _metadata(_served_as(services, model, version))

    async def model_ready(model: str, version: str | None = None) -> dict[str, Any]:
        served = _served_as(services, model, version)
        require_ready(services)
        return {"name": served.contract.name, "ready": True}

    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        facts, names = {"in": "path", "required": True}, re.findall(r"{(\w+)}", path)
        extra = {"parameters": [{"name": name, "schema": TEXT, **facts} for name in names]}
        predict.add_prediction_route(
            routes,
            services,
            f"{path}/infer",
            read,
            summary="Predict tensors",
            openapi_extra=json_request() | extra,
            responses={200: tensors},
        )
        routes.get(path, summary="The model's inputs and outputs")(metadata)
        routes.get(f"{path}/ready", summary="Whether the model answers")(model_ready)
    return routes


def _served_as(services: Services, model: str, version: str | None = None) -> ServedRelease:
    served = predict.served_by(services)
    name, number = served.contract.name, str(served.manifest.version)
    if model != name or version not in (None, number):
        wanted = f"model {model[:80]!r}" + (f" of version {version[:80]!r}" if version else "")
        detail = f"There is no {wanted}; in service is version {number} of {name!r}"
        raise ProblemError(404, detail)
    return served


def _metadata(served: ServedRelease) -> dict[str, Any]:
    contract, manifest = served.contract, served.manifest
    inputs = [_tensor(name, datatype_of(feature)) for name, feature in contract.features.items()]
    if is_plain(contract):
        inputs = [_tensor(INPUT_NAME, "FP64", len(inputs))]
    return {
        "name": contract.name,
        "versions": [str(manifest.version)],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": list(_outputs(served).values()),
        "parameters": {"features": [*contract.features], "release": manifest.release},
    }


def datatype_of(feature: Feature) -> str:
    """The datatype that the model metadata names for a feature."""
    is_whole = feature.type == "integer" or feature.has_integer_categories
    if is_whole and not feature.is_optional:
        return "INT64"
    if feature.is_number:
        return "FP64"
    return "BOOL" if feature.type == "boolean" else "BYTES"


def _outputs(served: ServedRelease) -> dict[str, dict[str, Any]]:
    target = served.contract.target
    outputs = [_tensor(target.response_name, datatype_of(target.feature))]
    if target.classes:
        outputs.append(_tensor("label", "BYTES"))
    if served.manifest.has_probabilities:
        datatype = "FP32" if served.manifest.precision == "float32" else "FP64"
        outputs.append(_tensor(PROBABILITY_OUTPUT, datatype, len(target.classes)))
    return {output["name"]: output for output in outputs}


def _tensor(name: str, datatype: str, *width: int) -> dict[str, Any]:
    # -1 stands for the number of rows.
    return {"name": name, "datatype": datatype, "shape": [-1, *width]}


def read(services: Services, request: Request) -> Inference:
    """Read what is asked of ``POST …/infer``."""
    # The protocol's own clients say nothing of the type.
    declared_type = request.headers.get(CONTENT_TYPE, b"application/json")
    media_type(declared_type, "application/json", _OCTETS)
    # /v2/models/MODEL/infer or /v2/models/MODEL/versions/VERSION/infer
    served = _served_as(services, *request.path.split("/")[3:6:2])
    declared, size = request.headers.get(_HEADER_LENGTH), len(request.body)
    length = size if declared is None else int(declared[:9]) if declared.isdigit() else size + 1
    if length > size:
        allowed = f"the number of bytes of the JSON, at most {size}"
        raise refused("Inference-Header-Content-Length", "does not fit the body", allowed)
    head, binary = request.body[:length], memoryview(request.body)[length:]
    return read_json(head, lambda text: _inference(served, request, text, binary), "a request")


def _inference(
    served: ServedRelease, request: Request, text: bytes, binary: memoryview
) -> Inference:
    body = _BODY.decode(text)
    rows = _rows(served.codec, body.inputs, binary)
    outputs, wanted = _outputs(served), {}
    for index, output in enumerate(body.outputs or map(_Output, outputs)):
        if output.name not in outputs:
            path = f"outputs[{index}].name"
            raise refused(path, "is unknown", ", ".join(outputs), shown(output.name))
        is_binary = (output.parameters or _Parameters()).binary_data
        if is_binary is None:
            is_binary = (body.parameters or _Parameters()).binary_data_output
        wanted[output.name] = (outputs[output.name], bool(is_binary))
    return Inference(served, rows, request, partial(_write, body.id, wanted.values()))


def _rows(codec: Codec, tensors: Sequence[_Tensor], binary: memoryview) -> Rows:
    """The rows of tensors, whose binary data follow each other in ``binary``."""
    columns, rows = dict[str, RawValues](), None
    is_matrix = len(tensors) == 1 and tensors[0].name not in codec.features
    for tensor in tensors:
        name, datatype = tensor.name, tensor.datatype
        size = (tensor.parameters or _Parameters()).binary_data_size
        if is_matrix:
            is_number = datatype not in {"BYTES", "BOOL"}
            fits = is_number and tensor.shape[1:] == [len(codec.names)]
        else:
            is_new = name in codec.features and name not in columns
            fits = is_new and tensor.shape[1:] in ([], [1])
        if not fits:
            allowed = f"numbers of shape [rows, {len(codec.names)}], or a tensor of shape [rows] "
            allowed += f"for each of {', '.join(codec.names)}"
            raise refused(f"inputs.{name}", "does not fit", allowed, f"{datatype} {tensor.shape}")
        try:
            data = tensor.data if size is None else _unpacked(datatype, binary[:size])
            if is_matrix:
                rows = _read_matrix(codec, data)
        except (struct.error, ValueError, msgspec.MsgspecError) as error:
            path, message = f"inputs.{name}.data", f"is no data of {datatype}: {error}"
            raise refused(path, message, "the elements of the shape") from None
        columns[name], binary = data, binary[size or 0 :]
    if binary:
        message = "has more binary data than its tensors"
        raise refused("the body", message, "no more", f"{len(binary)} bytes")
    if rows is None:
        rows = RowsReader(codec, "inputs", lenient=True).read_columns(columns)
    for tensor in tensors:
        if tensor.shape[0] != rows.count:
            path = f"inputs.{tensor.name}.data"
            allowed = f"{tensor.shape[0]} rows, as the shape says"
            raise refused(path, "has another size", allowed, str(rows.count))
    return rows


def _read_matrix(codec: Codec, data: RawValues) -> Rows:
    """Rows of numbers, row by row; a part of them at a time, as they take more than their text."""
    if isinstance(data, np.ndarray):
        starts = range(0, len(data), CHUNK)
        parts: Iterable[list[float]] = (data[start : start + CHUNK].tolist() for start in starts)
    else:
        # A list of lists is read as a flat one is.
        text = b"[%b]" % bytes(data).translate(None, b"[]")
        parts = map(_decode_numbers, split_list(text, VALUES))
    reader, start, width = RowsReader(codec, "inputs", lenient=True), 0, len(codec.names)
    rest: list[float] = []
    for part in parts:
        numbers = rest + part
        whole = len(numbers) - len(numbers) % width
        for index, name in enumerate(codec.names):
            paths = (f"inputs.{name}[{number}]" for number in count(start))
            reader.check(name, numbers[index:whole:width], paths)
        start, rest = start + whole // width, numbers[whole:]
    if rest:
        raise ValueError("the last row is not whole")
    return reader.done(Form.COLUMNS)


def _unpacked(datatype: str, data: memoryview) -> RawValues:
    if datatype != "BYTES":
        return np.frombuffer(data, ELEMENT_TYPES[datatype])
    texts, offset = list[str](), 0
    while offset < len(data) and len(texts) <= MAX_ROWS:
        # Texts are UTF-8, each behind its length in four bytes.
        (length,) = struct.unpack_from("<I", data, offset)
        (text,) = struct.unpack_from(f"{length}s", data, offset + 4)
        texts.append(text.decode())
        offset += 4 + length
    return texts


def _write(
    request_id: str | None, wanted: Iterable[tuple[dict[str, Any], bool]], inference: Inference
) -> Answer:
    served, count = inference.served, inference.rows.count
    # The data in pieces: ``texts`` go into the JSON, ``binary`` behind it.
    tensors, texts, binary = list[dict[str, Any]](), list[Iterable[bytes]](), list[bytes]()
    for output, is_binary in wanted:
        tensor = output | {"shape": [count, *output["shape"][1:]]}
        pieces = _output_data(output["name"], served, inference.parts)
        if is_binary:
            packed = [_packed(output["datatype"], piece) for piece in pieces]
            tensor["parameters"] = {"binary_data_size": sum(map(len, packed))}
            binary += packed
        else:
            texts.append(pieces)
            tensor["data"] = predict.SLOTS
        tensors.append(tensor)
    prediction_id = inference.request.prediction_id
    document = {
        "model_name": served.contract.name,
        "model_version": str(served.manifest.version),
        "id": request_id or prediction_id,
        "parameters": {"prediction_id": prediction_id, "release": served.manifest.release},
        "outputs": tensors,
    }
    parts = predict.fill_slots(document, texts)
    if not binary:
        return Answer(parts)
    json = b"".join(parts)
    length = (_HEADER_LENGTH, b"%d" % len(json))
    return Answer([json, *binary], _OCTETS.encode(), headers=(length,))


def _output_data(output: str, served: ServedRelease, parts: Sequence[Part]) -> Iterable[bytes]:
    """The elements of an output as JSON, with commas between."""
    if output == "label" and served.contract.target.labels:
        return served.answers.named(parts, served.contract.target.labels)
    if output != PROBABILITY_OUTPUT or not served.manifest.has_probabilities:
        return served.answers.values(parts)
    by_row = (zip(*(text.split(b",") for text in part.texts[1:]), strict=True) for part in parts)
    return (b",".join(chain.from_iterable(rows)) for rows in by_row)


def _packed(datatype: str, text: bytes) -> bytes:
    values = msgspec.json.decode(b"[%b]" % text)
    if datatype != "BYTES":
        return np.array(values, ELEMENT_TYPES[datatype]).tobytes()
    encoded = [str(value).encode() for value in values]
    return b"".join(struct.pack("<I", len(element)) + element for element in encoded)
