"""The OpenAPI document: FastAPI's, with what the contract in service says of rows and answers.

The types that read values and write errors give their schemas. Examples are made of the contract,
never of data.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.rules import Precision, bounds, json_type
from mlops_for_mle.serving.auth import explain, needed
from mlops_for_mle.serving.codec import OUTSIDE_KEY
from mlops_for_mle.serving.errors import InferenceError, MlflowError, Problem

if TYPE_CHECKING:
    from mlops_for_mle.serving.context import Services
    from mlops_for_mle.serving.releases import Served

Schema = dict[str, Any]

RELEASE_SCHEMAS: dict[str, Schema] = {
    "model_version": {"type": "integer"},
    "release": {"type": "string"},
}
OUTSIDE_WORDS = "Features whose values lie outside what the model was trained on, if there are any"

_TEXT: Schema = {"type": "string"}
_REFERENCE = "#/components/schemas/{name}"
_, _ERRORS = msgspec.json.schema_components(
    (Problem, MlflowError, InferenceError), ref_template=_REFERENCE
)
_API_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, where the server has any. The header X-API-Key does too.",
}


def router(services: "Services", modules: Sequence[ModuleType]) -> APIRouter:
    """The document's route; it is made once for each release.

    ``operations(served)`` of a module gives bodies and answers by path, ``schemas(contract)``
    components.
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


def object_of(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    """An object without other fields."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def problems(descriptions: dict[str, str], schema: str = "Problem") -> dict[int | str, Any]:
    """Responses that are errors of a protocol; ``schema`` names its component."""
    media = "application/problem+json" if schema == "Problem" else "application/json"
    content = {media: {"schema": component(schema)}}
    return {
        status: {"description": description, "content": content}
        for status, description in descriptions.items()
    }


def component(name: str) -> Schema:
    """A reference to a schema of the document."""
    return {"$ref": _REFERENCE.format(name=name)}


def json_request(schema: Schema, **examples: Any) -> Schema:
    """What the document says of a body, for ``openapi_extra``."""
    shown = {name.replace("_", " "): {"value": one} for name, one in examples.items()}
    content = {"schema": schema, **({"examples": shown} if shown else {})}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def json_answer(description: str, schema: Schema, **headers: str) -> Schema:
    """What the document says of an answer; headers with their descriptions."""
    shown = {
        name.replace("_", "-"): {"description": text, "schema": _TEXT}
        for name, text in headers.items()
    }
    content = {"application/json": {"schema": schema}}
    return {"description": description, "content": content, "headers": shown}


def feature_schema(feature: Feature, precision: Precision = "float64") -> Schema:
    """The schema of one value."""
    schema = msgspec.json.schema(json_type(feature, precision))
    unit = f"in {feature.unit}" if feature.unit else None
    text = ", ".join(part for part in (feature.description, unit) if part)
    form = {"date": "date", "timestamp": "date-time"}.get(feature.type)
    facts = {"description": text or None, "format": form}
    return schema | {name: one for name, one in facts.items() if one}


def row_schema(contract: Contract, precision: Precision = "float64") -> Schema:
    """The schema of one row of a request."""
    features = contract.features.items()
    return object_of(
        {name: feature_schema(one, precision) for name, one in features},
        [name for name, one in features if not one.is_optional],
    )


def answer_schema(served: "Served", others: dict[str, Schema]) -> Schema:
    """The answer to one row, with what stands in it beside the prediction and its release."""
    always = _prediction_schemas(served) | others | RELEASE_SCHEMAS
    names = {"type": "array", "items": {"enum": list(served.contract.features)}, "minItems": 1}
    outside = {OUTSIDE_KEY: names | {"description": OUTSIDE_WORDS}}
    return object_of(always | outside, list(always))


def _prediction_schemas(served: "Served") -> dict[str, Schema]:
    """What stands for each row in an answer."""
    target = served.contract.target
    if not target.classes:
        return {target.response_name: {"type": "number"}}
    labels = list(target.labels.values())
    found: dict[str, Schema] = {
        target.response_name: {"enum": list(target.class_values)},
        "label": {"enum": labels},
    }
    if served.manifest.has_probabilities:
        one = {"type": "number", "minimum": 0, "maximum": 1}
        found["probabilities"] = object_of(dict.fromkeys(labels, one))
    return found


def example_row(contract: Contract) -> dict[str, Any]:
    """A row that the contract allows."""
    return {name: _example(one) for name, one in contract.features.items()}


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
    document["components"]["schemas"] |= _ERRORS
    for module in modules:
        if hasattr(module, "schemas"):
            document["components"]["schemas"] |= module.schemas(served and served.contract)
        if hasattr(module, "operations") and served is not None:
            for path, described in module.operations(served).items():
                operation = document["paths"][path]["post"]
                operation |= described["request"]
                operation["responses"]["200"] = described["answer"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _say_what_is_needed(operation, method.upper(), path)
            known = operation.setdefault("parameters", [])
            named = {one["name"] for one in known}
            known += [
                {"name": name, "in": "path", "required": True, "schema": _TEXT}
                for name in re.findall(r"{(\w+)}", path)
                if name not in named
            ]
    return document


def _say_what_is_needed(operation: Schema, method: str, path: str) -> None:
    need = needed(method, path)
    refusals = {"421": "Not a name of this machine"}
    if need != "nothing":
        refusals["401"] = explain(need)
    if need not in {"nothing", "any key"} or method != "GET":
        refusals["403"] = "The key lacks the scope, or a page of another site asks"
    operation["security"] = [] if need == "nothing" else [{"ApiKey": []}]
    if need not in {"admin", "nothing"}:
        operation["security"].append({})
    operation["responses"] = problems(refusals) | operation["responses"]
