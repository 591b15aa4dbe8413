"""The JSON schemas of requests and answers, derived from a contract."""

from typing import Any

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.serving.formats.row_reader import COLUMNS_KEY

_TYPES = {
    "integer": "integer",
    "boolean": "boolean",
    "category": "string",
    "date": "string",
    "timestamp": "string",
}
_FORMATS = {"date": "date", "timestamp": "date-time"}

PREDICTION_ID = {
    "type": "string",
    "description": "Names the prediction in the log and for feedback: a UUID of version 7; row i "
    "of several rows of one request is named <id>-<i>, counted from 0",
}


def row_schema(contract: Contract) -> dict[str, Any]:
    """One row of a request."""
    properties = {name: feature_schema(one) for name, one in contract.features.items()}
    return _object(properties, _required(contract))


def columns_schema(contract: Contract) -> dict[str, Any]:
    """Many rows of a request, by columns."""
    columns = {
        name: {"type": "array", "items": feature_schema(one), "minItems": 1}
        for name, one in contract.features.items()
    }
    inner = _object(columns, _required(contract)) | {
        "description": "Lists of one length, one value a row"
    }
    return _object({COLUMNS_KEY: inner})


def answer_schema(contract: Contract, has_probabilities: bool) -> dict[str, Any]:
    """The answer to one row."""
    return _object(
        _prediction_schemas(contract, has_probabilities)
        | {"prediction_id": PREDICTION_ID}
        | _release_schemas()
    )


def columns_answer_schema(contract: Contract, has_probabilities: bool) -> dict[str, Any]:
    """The answer to rows by columns."""
    columns: dict[str, Any] = {}
    for name, one in _prediction_schemas(contract, has_probabilities).items():
        if name == "probabilities":
            lists = {label: _list_of(each) for label, each in one["properties"].items()}
            columns[name] = _object(lists)
        else:
            columns[name] = _list_of(one)
    prediction_id = {
        "type": "string",
        "format": "uuid",
        "description": "Row i is named <prediction_id>-<i>, counted from 0; a single row is named "
        "by the id itself",
    }
    return _object(
        {COLUMNS_KEY: _object(columns), "prediction_id": prediction_id} | _release_schemas()
    )


def _prediction_schemas(contract: Contract, has_probabilities: bool) -> dict[str, Any]:
    target = contract.target
    if target.task != "classification":
        return {target.response_name: {"type": "number"}}
    labels = list(target.labels.values())
    schemas: dict[str, Any] = {
        target.response_name: {
            "type": "string" if target.has_text_classes else "integer",
            "enum": list(target.class_values),
        },
        "label": {"type": "string", "enum": labels},
    }
    if has_probabilities:
        one = {"type": "number", "minimum": 0, "maximum": 1}
        schemas["probabilities"] = _object(dict.fromkeys(labels, one))
    return schemas


def _release_schemas() -> dict[str, Any]:
    return {"model_version": {"type": "integer", "minimum": 1}, "release": {"type": "string"}}


def feature_schema(feature: Feature) -> dict[str, Any]:
    """One value of a feature."""
    unit = f"in {feature.unit}" if feature.unit else None
    described = ", ".join(part for part in (feature.description, unit) if part)
    kind = _TYPES.get(feature.type, "number")
    if feature.has_integer_categories:
        kind = "integer"
    known = feature.categories if feature.unknown == "reject" else ()
    facts = {
        "type": [kind, "null"] if feature.is_optional else kind,
        "format": _FORMATS.get(feature.type),
        "enum": [*known, *([None] if feature.is_optional else [])] if known else None,
        "minimum": feature.minimum,
        "maximum": feature.maximum,
        "description": described or None,
        "examples": list(feature.categories[:5]) if feature.categories and not known else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _required(contract: Contract) -> list[str]:
    return [name for name, one in contract.features.items() if not one.is_optional]


def _list_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }
