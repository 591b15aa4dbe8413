"""MLflow's scoring protocol: ``POST /invocations``, ``GET /ping`` and ``GET /version``.

Forms and answers are those of ``mlflow models serve`` (MLflow 3): columns that the model does not
know are ignored, text that is a number and true or false are cast, columns are found by their
names and never by their positions.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from mlops_for_mle import __version__
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.serving import predict
from mlops_for_mle.serving.codec import Codec, Form, Rows, RowsReader
from mlops_for_mle.serving.context import CONTENT_TYPE, media_type
from mlops_for_mle.serving.documents import LISTS, decode_fields, plain, read_json, split_list
from mlops_for_mle.serving.errors import Answer, refused
from mlops_for_mle.serving.health import require_ready
from mlops_for_mle.serving.openapi import TEXT, json_answer, json_request, list_of, object_of
from mlops_for_mle.serving.predict import Inference
from mlops_for_mle.serving.request import Request
from mlops_for_mle.serving.services import Services

_LINES_A_PIECE = 1000
_MAX_RECORD_LENGTH = 256 * 1024
_Part = msgspec.Raw | msgspec.UnsetType


class _Split(msgspec.Struct):
    columns: msgspec.Raw
    data: msgspec.Raw


class _Body(msgspec.Struct):
    dataframe_split: _Split | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: _Part = msgspec.UNSET
    instances: _Part = msgspec.UNSET
    inputs: _Part = msgspec.UNSET


_BODY = msgspec.json.Decoder(_Body)
_COLUMNS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["mlflow"], default_response_class=PlainTextResponse)
    body = json_request()
    body["requestBody"]["content"]["text/csv"] = {"schema": TEXT}
    wrong = json_answer("What is wrong", object_of({"error_code": TEXT, "message": TEXT}))
    description = "The predictions; their prediction_id is in the header X-Prediction-ID"
    predictions = json_answer(description, object_of({"predictions": list_of({})}))
    predict.add_prediction_route(
        routes,
        services,
        "/invocations",
        read,
        summary="Predict rows by MLflow's scoring protocol",
        openapi_extra=body,
        responses={200: predictions, "default": wrong},
    )

    @routes.get("/ping", summary="Whether predictions are answered")
    @routes.get("/health", summary="Whether predictions are answered")
    async def ping() -> str:
        require_ready(services)
        return "\n"

    @routes.get("/version", summary="The version of this server")
    async def version() -> str:
        return __version__

    return routes


def read(services: Services, request: Request) -> Inference:
    """Read what is asked of ``POST /invocations``."""
    content_type = media_type(request.headers.get(CONTENT_TYPE), "application/json", "text/csv")
    served = predict.served_by(services)
    read_rows = read_csv if content_type == "text/csv" else read_body
    return Inference(served, read_rows(served.codec, request.body), request, _write)


def _write(inference: Inference) -> Answer:
    served = inference.served
    headers = (
        (b"x-prediction-id", inference.request.prediction_id.encode()),
        (b"x-model-version", b"%d" % served.manifest.version),
    )
    values = served.answers.values(inference.parts)
    return Answer(predict.fill_slots({"predictions": predict.SLOTS}, [values]), headers=headers)


def read_body(codec: Codec, body: bytes) -> Rows:
    """Read a body of JSON."""
    return read_json(body, partial(_read_json, codec), "a body of MLflow's scoring protocol")


def _read_json(codec: Codec, text: bytes) -> Rows:
    forms = msgspec.structs.asdict(_BODY.decode(text))
    given = {name: content for name, content in forms.items() if content is not msgspec.UNSET}
    if len(given) != 1:
        allowed = f"an object with exactly one of {', '.join(forms)}"
        raise refused("", "the body has not one form", allowed, ", ".join(given) or None)
    ((name, content),) = given.items()
    if isinstance(content, _Split):
        parts = (plain(piece, list) for piece in split_list(bytes(content.data), LISTS))
        return _read_table(codec, plain(content.columns, list), parts, f"{name}.data")
    rows, reader = bytes(content), RowsReader(codec, name, lenient=True)
    if rows[:1] == b"[":
        return reader.read_list(rows)
    if name == "dataframe_records":
        raise refused(name, "is no list", "a list of objects, one a row")
    columns = decode_fields(rows, _COLUMNS)
    if any(bytes(columns[feature])[:1] == b"[" for feature in codec.names if feature in columns):
        return reader.read_columns(columns)
    # One row, as TensorFlow Serving has it.
    return reader.read_list(b"[%b]" % rows)


def read_csv(codec: Codec, body: bytes) -> Rows:
    """Read a body of CSV with a header."""
    lines = _records(io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline=""))
    try:
        parts = iter(lambda: list(islice(lines, _LINES_A_PIECE)), [])
        return _read_table(codec, next(lines, []), parts, "rows")
    except (csv.Error, UnicodeDecodeError) as error:
        raise refused("", f"is no CSV: {error}", "CSV in UTF-8") from None


def _records(text: Iterable[str]) -> Iterator[list[str]]:
    """The records of CSV, which may go over several lines, but not over very long ones."""
    size = 0

    def lines() -> Iterator[str]:
        nonlocal size
        for line in text:
            size += len(line)
            # Cells take many times the memory of their text.
            if size > _MAX_RECORD_LENGTH:
                raise csv.Error(f"a line has more than {_MAX_RECORD_LENGTH} characters")
            yield line

    for record in csv.reader(lines(), strict=True):
        size = 0
        if record:
            yield record


def _read_table(codec: Codec, header: list[Any], parts: Iterable[Any], where: str) -> Rows:
    reader, start = RowsReader(codec, where, lenient=True), 0
    header = [normalised(str(name)) for name in header]
    for name, feature in codec.features.items():
        if header.count(name) > 1:
            reader.faults.add(f"columns.{name}", "is given more than once", "each name once")
        elif name not in header and not feature.is_optional:
            reader.faults.add(f"{where}.{name}", "is missing", "a column of this name")
    reader.faults.raise_if_any()
    indices = {name: header.index(name) for name in codec.names if name in header}
    for rows in parts:
        for number, row in enumerate(rows, start):
            if not isinstance(row, list) or len(row) != len(header):
                allowed = f"a list of {len(header)} values"
                reader.faults.add(f"{where}[{number}]", "is no row", allowed, row)
        reader.faults.raise_if_any()
        for name, index in indices.items():
            paths = (f"{where}[{number}].{name}" for number in range(start, start + len(rows)))
            reader.check(name, [row[index] for row in rows], paths)
        start += len(rows)
    return reader.done(Form.COLUMNS)
