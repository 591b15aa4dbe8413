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
from fastapi import APIRouter, Request

from mlops_for_mle import __version__
from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import is_plain
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.releases.predictor import INPUT_NAME, PROBABILITY_OUTPUT
from mlops_for_mle.serving import predict
from mlops_for_mle.serving.codec import MOST_ROWS, Codec, Form, Given, Reading, Rows
from mlops_for_mle.serving.context import CONTENT_TYPE, media_type
from mlops_for_mle.serving.documents import PIECE, VALUES, pieces, read_json
from mlops_for_mle.serving.errors import Answer, Later, Piece, ProblemError, refused, shown
from mlops_for_mle.serving.health import require_ready
from mlops_for_mle.serving.openapi import TEXT, json_answer, json_request, object_of
from mlops_for_mle.serving.predict import HotRoute, Part, Question
from mlops_for_mle.serving.releases import Served
from mlops_for_mle.serving.request import Request as Asked
from mlops_for_mle.serving.services import Services

# Element types of the protocol by their names; little-endian.
ELEMENT_TYPES = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "BOOL": "|b1"}
ELEMENT_TYPES |= {f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)}
ELEMENT_TYPES |= {f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)}

_HEADER_LENGTH = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_Size = Annotated[int, msgspec.Meta(ge=1)]


class _Parameters(msgspec.Struct, frozen=True):
    """Those that are known; others are ignored."""

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
    found = APIRouter(tags=["open inference protocol"], responses={"default": wrong})

    @found.get("/v2", summary="The server")
    async def server() -> dict[str, Any]:
        extensions = ["binary_tensor_data"]
        return {"name": "mlops-for-mle", "version": __version__, "extensions": extensions}

    @found.get("/v2/health/live", summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @found.get("/v2/health/ready", summary="Whether inference requests are answered")
    async def ready() -> dict[str, bool]:
        require_ready(services)
        return {"ready": True}

    async def metadata(request: Request) -> dict[str, Any]:
        return _metadata(_served_as(services, **request.path_params))

    async def model_ready(request: Request) -> dict[str, Any]:
        served = _served_as(services, **request.path_params)
        require_ready(services)
        return {"name": served.contract.name, "ready": True}

    for route in INFER:
        path, told = route.path.removesuffix("/infer"), {"in": "path", "required": True}
        names = re.findall(r"{(\w+)}", path)
        named = {"parameters": [{"name": one, "schema": TEXT, **told} for one in names]}
        asked = json_request({"type": "object"}) | named
        predict.add_hot_route(found, services, route, "Predict tensors", openapi_extra=asked)
        found.get(path, summary="The model's inputs and outputs", openapi_extra=named)(metadata)
        words = "Whether the model answers"
        found.get(f"{path}/ready", summary=words, openapi_extra=named)(model_ready)
    return found


def _served_as(services: Services, model: str, version: str | None = None) -> Served:
    served = predict.served_by(services)
    name, number = served.contract.name, str(served.manifest.version)
    if model != name or version not in (None, number):
        asked = f"model {model[:80]!r}" + (f" of version {version[:80]!r}" if version else "")
        detail = f"There is no {asked}; in service is version {number} of {name!r}"
        raise ProblemError(404, detail)
    return served


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


def _outputs(served: Served) -> dict[str, dict[str, Any]]:
    target = served.contract.target
    kind = "FP64" if not target.classes else "BYTES" if target.has_text_classes else "INT64"
    outputs = [_tensor(target.response_name, kind)]
    if target.classes:
        outputs.append(_tensor("label", "BYTES"))
    if served.manifest.has_probabilities:
        kind = "FP32" if served.manifest.precision == "float32" else "FP64"
        outputs.append(_tensor(PROBABILITY_OUTPUT, kind, len(target.classes)))
    return {one["name"]: one for one in outputs}


def _tensor(name: str, datatype: str, *width: int) -> dict[str, Any]:
    # -1 stands for the number of rows.
    return {"name": name, "datatype": datatype, "shape": [-1, *width]}


def _read(services: Services, request: Asked) -> Question:
    # The protocol's own clients say nothing of the type.
    media_type(request.headers.get(CONTENT_TYPE), "application/json", _OCTETS, may_be_missing=True)
    # /v2/models/MODEL/infer or /v2/models/MODEL/versions/VERSION/infer
    served = _served_as(services, *request.path.split("/")[3:6:2])
    given, size = request.headers.get(_HEADER_LENGTH), len(request.body)
    length = size if given is None else int(given[:9]) if given.isdigit() else size + 1
    if length > size:
        allowed = f"the number of bytes of the JSON, at most {size}"
        raise refused("Inference-Header-Content-Length", "does not fit the body", allowed)
    head, binary = request.body[:length], memoryview(request.body)[length:]
    return read_json(head, lambda text: _question(served, request, text, binary), "a request")


INFER = (
    HotRoute("/v2/models/{model}/infer", _read),
    HotRoute("/v2/models/{model}/versions/{version}/infer", _read),
)


def _question(served: Served, request: Asked, text: bytes, binary: memoryview) -> Question:
    body = _BODY.decode(text)
    rows = _rows(served.codec, body.inputs, binary)
    outputs, wanted = _outputs(served), {}
    for place, one in enumerate(body.outputs or map(_Output, outputs)):
        if one.name not in outputs:
            path = f"outputs[{place}].name"
            raise refused(path, "is unknown", ", ".join(outputs), shown(one.name))
        is_binary = (one.parameters or _Parameters()).binary_data
        if is_binary is None:
            is_binary = (body.parameters or _Parameters()).binary_data_output
        wanted[one.name] = (outputs[one.name], bool(is_binary))
    return Question(served, rows, request, partial(_write, body.id, wanted.values()))


def _rows(codec: Codec, tensors: Sequence[_Tensor], binary: memoryview) -> Rows:
    """The rows of tensors; the binary data of those that have any stand behind each other."""
    columns, rows = dict[str, Given](), None
    is_matrix = len(tensors) == 1 and tensors[0].name not in codec.features
    for one in tensors:
        size = (one.parameters or _Parameters()).binary_data_size
        if is_matrix:
            is_number = one.datatype not in {"BYTES", "BOOL"}
            fits = is_number and one.shape[1:] == [len(codec.names)]
        else:
            is_new = one.name in codec.features and one.name not in columns
            fits = is_new and one.shape[1:] in ([], [1])
        if not fits:
            allowed = f"numbers of shape [rows, {len(codec.names)}], or a tensor of shape [rows] "
            allowed += f"for each of {', '.join(codec.names)}"
            given = f"{one.datatype} {one.shape}"
            raise refused(f"inputs.{one.name}", "does not fit", allowed, given)
        try:
            data = one.data if size is None else _unpacked(one.datatype, binary[:size])
            if is_matrix:
                rows = _read_matrix(codec, data)
        except (struct.error, ValueError, msgspec.MsgspecError) as error:
            path, what = f"inputs.{one.name}.data", f"is no data of {one.datatype}: {error}"
            raise refused(path, what, "the elements of the shape") from None
        columns[one.name], binary = data, binary[size or 0 :]
    if binary:
        what = "has more binary data than its tensors"
        raise refused("the body", what, "no more", f"{len(binary)} bytes")
    if rows is None:
        rows = Reading(codec, "inputs", lenient=True).read_columns(columns)
    for one in tensors:
        if one.shape[0] != rows.count:
            allowed = f"{one.shape[0]} rows, as the shape says"
            raise refused(f"inputs.{one.name}.data", "has another size", allowed, str(rows.count))
    return rows


def _read_matrix(codec: Codec, given: Given) -> Rows:
    """Rows of numbers, row by row; a part of them at a time, as they take more than their text."""
    if isinstance(given, np.ndarray):
        starts = range(0, len(given), PIECE)
        parts: Iterable[list[float]] = (given[at : at + PIECE].tolist() for at in starts)
    else:
        # Whether lists stand in the list makes no difference.
        text = b"[%b]" % bytes(given).translate(None, b"[]")
        parts = map(_decode_numbers, pieces(text, VALUES))
    reading, start, width = Reading(codec, "inputs", lenient=True), 0, len(codec.names)
    rest: list[float] = []
    for part in parts:
        numbers = rest + part
        whole = len(numbers) - len(numbers) % width
        for place, name in enumerate(codec.names):
            paths = (f"inputs.{name}[{at}]" for at in count(start))
            reading.check(name, numbers[place:whole:width], paths)
        start, rest = start + whole // width, numbers[whole:]
    if rest:
        raise ValueError("the last row is not whole")
    return reading.done(Form.COLUMNS)


def _unpacked(datatype: str, data: memoryview) -> Given:
    if datatype != "BYTES":
        return np.frombuffer(data, ELEMENT_TYPES[datatype])
    texts, offset = list[str](), 0
    while offset < len(data) and len(texts) <= MOST_ROWS:
        # Texts are UTF-8, each behind its length in four bytes.
        (length,) = struct.unpack_from("<I", data, offset)
        (text,) = struct.unpack_from(f"{length}s", data, offset + 4)
        texts.append(text.decode())
        offset += 4 + length
    return texts


def _write(
    name: str | None, wanted: Iterable[tuple[dict[str, Any], bool]], question: Question
) -> Answer:
    served, count = question.served, question.rows.count
    # The data in pieces, of which those in the JSON have their place there.
    tensors, texts, binary = list[dict[str, Any]](), list[list[Piece]](), list[bytes]()
    for kind, is_binary in wanted:
        tensor = kind | {"shape": [count, *kind["shape"][1:]]}
        pieces = _written(kind["name"], served, question.parts)
        if is_binary:
            packed = [_packed(kind["datatype"], bytes(one)) for one in pieces]
            tensor["parameters"] = {"binary_data_size": sum(map(len, packed))}
            binary += packed
        else:
            texts.append(pieces)
            tensor["data"] = predict.SLOTS
        tensors.append(tensor)
    prediction_id = question.request.prediction_id
    document = {
        "model_name": served.contract.name,
        "model_version": str(served.manifest.version),
        "id": name or prediction_id,
        "parameters": {"prediction_id": prediction_id, "release": served.manifest.release},
        "outputs": tensors,
    }
    json = predict.filled(document, texts)
    if not binary:
        return Answer(json)
    length = (_HEADER_LENGTH, b"%d" % sum(map(len, json)))
    return Answer([*json, *binary], _OCTETS.encode(), headers=(length,))


def _written(output: str, served: Served, parts: Sequence[Part]) -> list[Piece]:
    if output == "label" and served.contract.target.labels:
        return served.answers.named(parts, served.contract.target.labels)
    if output != PROBABILITY_OUTPUT or not served.manifest.has_probabilities:
        return served.answers.values(parts)

    def by_row(part: Part) -> bytes:
        rows = zip(*(one.split(b",") for one in part.texts[1:]), strict=True)
        return b",".join(chain.from_iterable(rows))

    return [Later(len(b",".join(one.texts[1:])), partial(by_row, one)) for one in parts]


def _packed(datatype: str, text: bytes) -> bytes:
    values = msgspec.json.decode(b"[%b]" % text)
    if datatype != "BYTES":
        return np.array(values, ELEMENT_TYPES[datatype]).tobytes()
    encoded = [str(one).encode() for one in values]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
