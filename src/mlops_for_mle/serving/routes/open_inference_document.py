"""What the OpenAPI document says of inference by the Open Inference Protocol."""

from typing import Any

from mlops_for_mle.serving.formats.feature_tensors import DATATYPES
from mlops_for_mle.serving.releases.served_release import ServedRelease
from mlops_for_mle.serving.responses import error_responses

_BINARY: dict[str, Any] = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": "The JSON followed by the binary data of its tensors",
    }
}
_HEADER: dict[str, Any] = {
    "description": "The bytes of the JSON, where binary tensor data follows it",
    "schema": {"type": "integer", "minimum": 0},
}
_PARAMETERS: dict[str, Any] = {"type": "object"}


def infer_operation(path: str, served: ServedRelease | None) -> dict[str, Any]:
    """The operation of one of the paths, for the release in service."""
    names = [name for name in ("model", "version") if f"{{{name}}}" in path]
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            **({"example": _example_of(name, served)} if served is not None else {}),
        }
        for name in names
    ]
    header = {"name": "Inference-Header-Content-Length", "in": "header", "required": False}
    return {
        "tags": ["open inference protocol"],
        "summary": "Predict rows given as tensors",
        "operationId": f"{names[-1]}_infer",
        "parameters": [*parameters, header | _HEADER],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _request_schema(), **_examples(served)},
                "application/octet-stream": _BINARY,
            },
        },
        "responses": {
            "200": {
                "description": "The outputs",
                "headers": {"Inference-Header-Content-Length": _HEADER},
                "content": {
                    "application/json": {"schema": _answer_schema()},
                    "application/octet-stream": _BINARY,
                },
            },
            **error_responses(
                {
                    "400": "The request is none of the protocol or does not fit the contract",
                    "404": "No such model or version",
                    "408": "The body did not arrive in time",
                    "413": "The body is too large",
                    "415": "The body is neither JSON nor binary data",
                    "429": "The server works on as many requests as it may",
                    "503": "No release is loaded, or the prediction log can keep no more",
                    "504": "The prediction took too long",
                },
                "InferenceError",
            ),
        },
    }


def _example_of(name: str, served: ServedRelease) -> str:
    return served.contract.name if name == "model" else str(served.manifest.model.version)


def _request_schema() -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": ["number", "string", "boolean", "null"]}}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "parameters": _PARAMETERS,
            "data": {"oneOf": [numbers, {"type": "array", "items": numbers}]},
        },
        "required": ["name", "shape", "datatype"],
    }
    output = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["inputs"],
    }


def _answer_schema() -> dict[str, Any]:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "parameters": _PARAMETERS,
            "data": {"type": "array", "items": {"type": ["number", "string"]}},
        },
        "required": ["name", "shape", "datatype"],
    }
    return {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string", "description": "The request's id, else the prediction id"},
            "parameters": {
                "type": "object",
                "properties": {
                    "prediction_id": {"type": "string", "format": "uuid"},
                    "release": {"type": "string"},
                },
                "required": ["prediction_id", "release"],
            },
            "outputs": {"type": "array", "items": tensor},
        },
        "required": ["model_name", "model_version", "id", "parameters", "outputs"],
    }


def _examples(served: ServedRelease | None) -> dict[str, Any]:
    if served is None:
        return {}
    rows = [list(row) for row in served.manifest.example.rows[:3]]
    tensors = served.tensor_writer.metadata()["inputs"]
    names = served.contract.feature_names
    are_plain = [one["name"] for one in tensors] != list(names)
    kinds = ["FP64"] * len(names) if are_plain else [one["datatype"] for one in tensors]
    by_feature = [
        {"name": name, "shape": [len(rows)], "datatype": kind, "data": [row[at] for row in rows]}
        for at, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    examples = {"a tensor for each feature": {"value": {"inputs": by_feature}}}
    if are_plain:
        matrix = tensors[0] | {"shape": [len(rows), len(names)], "data": rows}
        examples = {"one tensor": {"value": {"inputs": [matrix]}}} | examples
    return {"examples": examples}
