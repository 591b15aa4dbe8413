"""MLflow's scoring protocol: ``POST /invocations``, ``GET /ping`` and ``GET /version``.

Forms and answers are those of ``mlflow models serve`` (MLflow 3): columns that the model does not
know are ignored, text that is a number and true or false are cast, columns are found by their
names and never by their positions.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from mlops_for_mle import __version__
from mlops_for_mle.serving import documents
from mlops_for_mle.serving.codec import Codec, Columns, Rows, encode
from mlops_for_mle.serving.context import Answer, Services, media_type
from mlops_for_mle.serving.context import Request as PlainRequest
from mlops_for_mle.serving.documents import (
    LISTS,
    PIECE,
    VALUES,
    Text,
    elements,
    fields,
    kind_of,
    pieces,
)
from mlops_for_mle.serving.errors import Faults, refused
from mlops_for_mle.serving.health import require_ready
from mlops_for_mle.serving.openapi import (
    Schema,
    example_row,
    json_answer,
    json_request,
    object_of,
    prediction_schemas,
    problems,
)
from mlops_for_mle.serving.predict import (
    FAILURES,
    Answered,
    HotRoute,
    Question,
    add_hot_route,
    served_by,
)
from mlops_for_mle.serving.releases import Served

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_KNOWN = (*FORMS, "params", "signature_name")
_SPLIT = ("columns", "data", "index")
_LINES_A_PIECE = 1000


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["mlflow"])
    add_hot_route(
        found,
        services,
        INVOCATIONS,
        summary="Predict rows by MLflow's scoring protocol",
        operation_id="invocations",
        responses=problems(
            FAILURES
            | {"400": "The body is in no form of the protocol or does not fit the contract"},
            "MlflowError",
        ),
    )
    plain: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    }

    async def ping(request: Request) -> PlainTextResponse:
        require_ready(services, request)
        return PlainTextResponse("\n")

    for path in ("/ping", "/health"):
        found.add_api_route(
            path,
            ping,
            summary="Whether predictions are answered",
            operation_id=path.strip("/"),
            response_class=PlainTextResponse,
            responses=plain | problems({"503": "No release is loaded"}),
        )

    @found.get(
        "/version",
        summary="The version of this server",
        response_class=PlainTextResponse,
        responses=plain,
    )
    async def version() -> str:
        return __version__

    return found


def _read(services: Services, request: PlainRequest) -> Question:
    kind = media_type(request.headers, "application/json", "text/csv")
    served = served_by(services)
    read = _read_csv if kind == "text/csv" else _read_json
    return Question(served, read(served.codec, request.body), request, _write)


def _write(answered: Answered) -> Answer:
    served = answered.question.served
    values = msgspec.Raw(answered.texts[0])
    target = served.contract.target
    written: Any = values
    if target.has_text_classes:
        written = [target.values[code] for code in answered.predictions.values.tolist()]
    headers = (
        (b"x-prediction-id", answered.prediction_id.encode()),
        (b"x-model-version", b"%d" % served.manifest.version),
    )
    return Answer(encode({"predictions": written}), headers=headers)


INVOCATIONS = HotRoute("/invocations", _read)


def _read_json(codec: Codec, body: bytes) -> Rows:
    given = documents.object_of(body, _KNOWN)
    found = [name for name in FORMS if name in given]
    if len(found) != 1:
        told = ", ".join(list(given)[:5]) or "nothing"
        allowed = f"an object with exactly one of {', '.join(FORMS)}"
        raise refused("", "the body has not one form", allowed, told)
    if documents.value(given.get("params", memoryview(b"null"))):
        raise refused("params", "is refused: the model takes no parameters", "no params")
    (name,) = found
    if name == "dataframe_split":
        return _read_split(codec, given[name], name)
    if name == "dataframe_records" and kind_of(given[name]) != b"[":
        raise refused(name, "is no list", "a list of objects, one a row")
    return _read_rows_or_columns(codec, given[name], name)


def _read_rows_or_columns(codec: Codec, raw: Text, where: str) -> Rows:
    if kind_of(raw) == b"[":
        return codec.read_list(raw, where, lenient=True)
    if kind_of(raw) != b"{":
        raise refused(where, "is neither a list nor an object", "rows or columns with names")
    given = fields(raw, where)
    if not any(kind_of(given[name]) == b"[" for name in codec.names if name in given):
        # One row, as TensorFlow Serving has it.
        raw = b"[%b]" % bytes(raw)
        return codec.read_list(raw, where, lenient=True)
    return codec.read_columns(given, where)


def _read_split(codec: Codec, raw: Text, where: str) -> Rows:
    if kind_of(raw) != b"{":
        raise refused(where, "is no object", "an object with columns and data")
    given = fields(raw, where, _SPLIT)
    if "data" not in given or not given.keys() <= set(_SPLIT):
        found = ", ".join(sorted(given)) or "nothing"
        raise refused(where, "has other fields", ", ".join(_SPLIT), found)
    data, path = given["data"], f"{where}.data"
    if kind_of(data) == b"{" or documents.first_of(data) == b"{":
        return _read_rows_or_columns(codec, data, path)
    if kind_of(data) != b"[":
        raise refused(path, "is no list", "a list of rows")
    try:
        header = msgspec.json.decode(given.get("columns", b""), type=list[str])
    except msgspec.MsgspecError:
        allowed = ", ".join(codec.names)
        raise refused(f"{where}.columns", "is no list of names", allowed) from None
    rows = _read_table(codec, header, map(_decode_lists, pieces(data, LISTS)), path)
    index = given.get("index", memoryview(b"null"))
    if bytes(index[:5]) != b"null":
        is_list = kind_of(index) == b"["
        if not is_list or sum(len(elements(one)) for one in pieces(index, VALUES)) != rows.count:
            raise refused(f"{where}.index", "does not fit data", "one entry for each row of data")
    return rows


def _decode_lists(piece: Text) -> list[Any]:
    if len(piece) > 4 * PIECE:
        raise refused("", "holds no rows", "a list of rows, each a list of values")
    return list(map(documents.value, elements(piece)))


def _read_csv(codec: Codec, body: bytes) -> Rows:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refused("", "the body is not UTF-8", "CSV in UTF-8") from None
    lines = (one for one in csv.reader(io.StringIO(text, newline=""), strict=True) if one)
    try:
        header = next(lines, None)
        if header is None:
            raise refused("", "the body is empty", "CSV with a header")
        return _read_table(codec, header, _some_lines(lines), "rows")
    except csv.Error as error:
        raise refused("", f"is no CSV: {error}", "CSV") from None


def _some_lines(lines: Iterator[list[str]]) -> Iterator[list[Any]]:
    while piece := [one for one, _ in zip(lines, range(_LINES_A_PIECE), strict=False)]:
        yield piece


def _read_table(codec: Codec, header: list[str], parts: Iterator[list[Any]], where: str) -> Rows:
    """Rows of values in the order of a header."""
    faults = Faults()
    for name in codec.names:
        if header.count(name) > 1:
            faults.add(f"columns.{name}", "is given more than once", "each name once")
        elif name not in header and not codec.features[name].is_optional:
            faults.add(f"{where}.{name}", "is missing", "a column of this name")
    faults.raise_if_any()
    rows = codec.rows(_checked(codec, header, parts, where, faults))
    faults.raise_if_any()
    if not rows.count:
        raise refused(where, "has no rows", "at least one row")
    return rows


def _checked(
    codec: Codec, header: list[str], parts: Iterator[list[Any]], where: str, faults: Faults
) -> Iterator[Columns]:
    start = 0
    for rows in parts:
        for number, row in enumerate(rows, start):
            if not isinstance(row, list):
                faults.add(f"{where}[{number}]", "is no list", "one value a column", row)
            elif len(row) != len(header):
                faults.add(f"{where}[{number}]", "has another length", f"{len(header)} values", row)
        faults.raise_if_any()
        columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}

        def path_of(name: str, row: int, first: int = start) -> str:
            return f"{where}[{first + row}].{name}"

        yield codec.fit(columns, len(rows), path_of, faults)
        start += len(rows)


def operations(served: Served) -> dict[str, Schema]:
    """What the document says of the route, for a release; MLflow itself says more."""
    given = example_row(served.contract)
    names, values = list(given), list(given.values())
    forms = {
        "dataframe_split": {"columns": names, "data": [values]},
        "dataframe_records": [given],
        "instances": [given],
        "inputs": {name: [value] for name, value in given.items()},
    }
    schema = {
        "oneOf": [
            {"type": "object", "properties": {name: {}}, "required": [name]} for name in FORMS
        ]
    }
    request = json_request(schema, **{name: {name: form} for name, form in forms.items()})
    request["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    value = next(iter(prediction_schemas(served).values()))
    answer = json_answer(
        "One prediction a row",
        object_of({"predictions": {"type": "array", "items": value}}),
        X_Prediction_ID="The id of the rows; row i of several is <id>-<i>",
        X_Model_Version="The version that answered",
    )
    return {INVOCATIONS.path: {"request": request, "answer": answer}}
