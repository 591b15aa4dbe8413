"""The OpenAPI document: FastAPI's, with what the contract in service says of rows and answers.

The types that read values and write errors give their schemas. Examples are made of the contract,
never of data.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.rules import Precision, bounds, json_type
from mlops_for_mle.releases.explain import Explained
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY
from mlops_for_mle.serving.errors import Problem

if TYPE_CHECKING:
    from mlops_for_mle.serving.context import Services
    from mlops_for_mle.serving.releases import Served

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_, _PROBLEM = msgspec.json.schema_components([Problem], ref_template=_REFERENCE)
_OF_RELEASE = ("Row", "RowColumns", "Answer", "AnswerColumns")
_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_API_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, where the server has any. The header X-API-Key does too.",
}


def router(services: "Services", modules: Sequence[ModuleType]) -> APIRouter:
    """The document's route; it is made once for each release.

    ``schemas(contract)`` of a module gives components.
    """
    found = APIRouter(include_in_schema=False)
    made: dict[str, Any] = {}

    @found.get("/openapi.json")
    def document(request: Request) -> Response:
        served = services.releases.current
        if not made or made["served"] is not served:
            text = msgspec.json.encode(_document(request.app, served, modules))
            made.update(served=served, text=text)
        return Response(made["text"], media_type="application/json")

    return found


def object_of(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    """An object without other fields."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def list_of(items: Schema, **limits: int) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1, **limits}


def component(name: str) -> Schema:
    """A reference to a schema of the document."""
    return {"$ref": _REFERENCE.format(name=name)}


def json_request(*schemas: Schema) -> Schema:
    """What the document says of a body of one of some kinds, for ``openapi_extra``."""
    return {"requestBody": {"required": True, **_content(schemas)}}


def json_answer(description: str, *schemas: Schema) -> Schema:
    """What the document says of an answer."""
    return {"description": description, **_content(schemas)}


def _content(schemas: Sequence[Schema]) -> Schema:
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}
    return {"content": {"application/json": {"schema": schema}}}


def feature_schema(feature: Feature, precision: Precision = "float64") -> Schema:
    """The schema of one value."""
    schema = msgspec.json.schema(json_type(feature, precision))
    unit = f"in {feature.unit}" if feature.unit else None
    text = ", ".join(part for part in (feature.description, unit) if part)
    form = {"date": "date", "timestamp": "date-time"}.get(feature.type)
    facts = {"description": text or None, "format": form}
    return schema | {name: one for name, one in facts.items() if one}


def _release_schemas(served: "Served | None") -> dict[str, Schema]:
    """Rows and answers of the release in service; any object where there is none."""
    if served is None:
        return {name: {"type": "object"} for name in _OF_RELEASE}
    features, target, manifest = served.contract.features, served.contract.target, served.manifest
    row = {name: feature_schema(one, manifest.precision) for name, one in features.items()}
    required = [name for name, one in features.items() if not one.is_optional]
    columns = object_of({name: {"type": "array"} for name in row}, required)
    release: dict[str, Schema] = {"model_version": {"type": "integer"}, "release": _TEXT}
    labels = list(target.labels.values())
    answer = {target.response_name: {"enum": list(target.class_values)} if labels else _NUMBER}
    if labels:
        answer["label"] = {"enum": labels}
    if manifest.has_probabilities:
        chance = _NUMBER | {"minimum": 0, "maximum": 1}
        answer["probabilities"] = object_of(dict.fromkeys(labels, chance))
    answer |= release
    words = "For feedback; row i of several rows of one request is named <id>-<i>, counted from 0"
    named = {"prediction_id": _TEXT | {"description": words}}
    contributions = object_of(dict.fromkeys(features, _NUMBER))
    explanation = {"explained": {"enum": list(get_args(Explained))}, "contributions": contributions}
    explanation |= dict.fromkeys(("value", "base"), _NUMBER)
    words = "Features whose values lie outside what the model was trained on, if there are any"
    outside = list_of({"enum": list(features)}) | {"description": words}
    places = object_of(dict.fromkeys(features, list_of({"type": "integer", "minimum": 0})), [])
    others = named | {OUTSIDE_KEY: outside, "explanation": object_of(explanation)}
    answers = {COLUMNS_KEY: {"type": "object"}} | named | release
    schemas = (
        object_of(row, required)
        | {"examples": [{name: _example(one) for name, one in features.items()}]},
        object_of({COLUMNS_KEY: columns}),
        object_of(answer | others, list(answer)),
        object_of(answers | {OUTSIDE_KEY: places | {"description": words}}, list(answers)),
    )
    return dict(zip(_OF_RELEASE, schemas, strict=True))


def _example(feature: Feature) -> Any:
    if feature.categories:
        return feature.categories[0]
    if feature.type == "boolean":
        return True
    if feature.is_time:
        time = feature.earliest or feature.latest or datetime(2026, 1, 31)  # noqa: DTZ001  (as the contract's times)
        return time.date().isoformat() if feature.type == "date" else time.isoformat()
    lower, upper = bounds(feature)
    is_bounded = feature.minimum is not None and feature.maximum is not None
    number = (lower + upper) / 2 if is_bounded else min(max(1.0, lower), upper)
    return round(number, 4) if feature.type != "integer" else int(number)


def _document(app: FastAPI, served: "Served | None", modules: Sequence[ModuleType]) -> Schema:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    document["components"]["securitySchemes"] = {"ApiKey": _API_KEY}
    document["security"] = [{"ApiKey": []}, {}]
    schemas = document["components"]["schemas"]
    schemas |= _PROBLEM | _release_schemas(served)
    schemas["MlflowError"] = object_of({"error_code": _TEXT, "message": _TEXT})
    schemas["InferenceError"] = object_of({"error": _TEXT})
    for module in modules:
        if hasattr(module, "schemas"):
            schemas |= module.schemas(served and served.contract)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, path)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _complete(operation: Schema, path: str) -> None:
    """Say of an operation what the framework does not know: errors, parts of the path."""
    media, schema = "application/json", "InferenceError"
    if path == "/invocations":
        schema = "MlflowError"
    elif not path.startswith("/v2"):
        media, schema = "application/problem+json", "Problem"
    content = {media: {"schema": component(schema)}}
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {"description": "What is wrong", "content": content}
    operation.setdefault(
        "parameters",
        [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ],
    )
