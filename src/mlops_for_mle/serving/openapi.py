"""The OpenAPI document: FastAPI's, with what the contract in service says of rows and answers.

The types that read values and write errors give their schemas. It holds no data.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.rules import json_type
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY
from mlops_for_mle.serving.errors import Problem

if TYPE_CHECKING:
    from mlops_for_mle.serving.releases import ServedRelease
    from mlops_for_mle.serving.services import Services

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_, _PROBLEM = msgspec.json.schema_components([Problem], ref_template=_REFERENCE)
# What the release in service determines; any object where there is none.
_OF_ROWS = ("Row", "RowColumns", "Answer", "AnswerColumns")
_OF_DATA = ("NewObservation", "ObservationChange", "Observation", "NewFeedback")
_NUMBER: Schema = {"type": "number"}
TEXT: Schema = {"type": "string"}
OBJECT: Schema = {"type": "object", "additionalProperties": True}
_API_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, where the server has any. The header X-API-Key does too.",
}


def router(services: "Services", modules: Sequence[ModuleType]) -> APIRouter:
    """The document's route; a module's ``schemas(contract)``, if there, gives components."""
    routes = APIRouter(include_in_schema=False)

    @lru_cache(maxsize=1)
    def encoded(app: FastAPI, served: "ServedRelease | None") -> bytes:
        return msgspec.json.encode(_document(app, served, modules))

    @routes.get("/openapi.json")
    def document(request: Request) -> Response:
        text = encoded(request.app, services.releases.current)
        return Response(text, media_type="application/json")

    return routes


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
    """What the document says of a body, by default an object, for ``openapi_extra``."""
    return {"requestBody": {"required": True, **_content(schemas or [OBJECT])}}


def json_answer(description: str, *schemas: Schema, media: str = "application/json") -> Schema:
    """What the document says of an answer."""
    return {"description": description, **_content(schemas, media)}


def _content(schemas: Sequence[Schema], media: str = "application/json") -> Schema:
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}
    return {"content": {media: {"schema": schema}}}


PROBLEM = json_answer("What is wrong", component("Problem"), media="application/problem+json")


def feature_schema(feature: Feature) -> Schema:
    """The schema of one value."""
    schema = msgspec.json.schema(json_type(feature))
    unit = f"in {feature.unit}" if feature.unit else None
    text = ", ".join(part for part in (feature.description, unit) if part)
    form = {"date": "date", "timestamp": "date-time"}.get(feature.type)
    facts = {"description": text, "format": form}
    return schema | {name: fact for name, fact in facts.items() if fact}


def _schemas(served: "ServedRelease") -> dict[str, Schema]:
    features, target, manifest = served.contract.features, served.contract.target, served.manifest
    row = {name: feature_schema(feature) for name, feature in features.items()}
    required = [name for name, feature in features.items() if not feature.is_optional]
    columns = object_of({name: list_of(schema) for name, schema in row.items()}, required)
    labels = list(target.labels.values())
    answer = {target.response_name: {"enum": [*target.codes]} if labels else _NUMBER}
    if labels:
        answer["label"] = {"enum": labels}
    if manifest.has_probabilities:
        probability = _NUMBER | {"minimum": 0, "maximum": 1}
        answer["probabilities"] = object_of(dict.fromkeys(labels, probability))
    answer |= {"model_version": {"type": "integer"}, "release": TEXT}
    text = "For feedback; row i of several rows of one request is named <id>-<i>, counted from 0"
    prediction_id = {"prediction_id": TEXT | {"description": text}}
    text = "Features whose values lie outside what the model was trained on, if there are any"
    outside = list_of({"enum": list(features)}) | {"description": text}
    optional = prediction_id | {OUTSIDE_KEY: outside, "explanation": OBJECT}
    schemas = (
        object_of(row, required),
        object_of({COLUMNS_KEY: columns}),
        object_of(answer | optional, list(answer)),
        OBJECT | {"properties": {COLUMNS_KEY: OBJECT}, "required": [COLUMNS_KEY]},
    )
    return dict(zip(_OF_ROWS, schemas, strict=True))


def _document(
    app: FastAPI, served: "ServedRelease | None", modules: Sequence[ModuleType]
) -> Schema:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    document["security"] = [{"ApiKey": []}, {}]
    document["components"]["securitySchemes"] = {"ApiKey": _API_KEY}
    schemas = document["components"]["schemas"]
    schemas |= _PROBLEM | dict.fromkeys((*_OF_ROWS, *_OF_DATA), OBJECT)
    if served is not None:
        schemas |= _schemas(served)
        for module in modules:
            if hasattr(module, "schemas"):
                schemas |= module.schemas(served.contract)
    return document
