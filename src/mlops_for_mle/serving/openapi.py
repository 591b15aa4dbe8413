"""The OpenAPI document: FastAPI's, with what the contract in service says of rows and answers."""

from typing import Any


def problems(descriptions: dict[str, str], schema: str = "Problem") -> dict[int | str, Any]:
    """Responses that are errors of a protocol; ``schema`` names its component."""
    media = "application/problem+json" if schema == "Problem" else "application/json"
    content = {media: {"schema": component(schema)}}
    return {
        status: {"description": description, "content": content}
        for status, description in descriptions.items()
    }


def component(name: str) -> dict[str, Any]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_request(schema: dict[str, Any]) -> dict[str, Any]:
    """What the document says of a body, for ``openapi_extra``."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def json_answer(description: str, schema: dict[str, Any], **headers: str) -> dict[str, Any]:
    """What the document says of an answer; headers with their descriptions."""
    shown = {
        name.replace("_", "-"): {"description": text, "schema": {"type": "string"}}
        for name, text in headers.items()
    }
    answer = {"description": description, "content": {"application/json": {"schema": schema}}}
    return answer | ({"headers": shown} if shown else {})
