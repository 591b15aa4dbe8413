"""JSON bodies and answers of ordinary routes whose form depends on the contract in service."""

from typing import Annotated, Any

from fastapi import Depends, Request

from mlops_for_mle.serving.formats.documents import parse_json
from mlops_for_mle.serving.http.bodies import require_json


async def _read_json(request: Request) -> Any:
    """The document; equal keys of an object come as ``DuplicateKey``.

    Raises:
        ProblemError: 415, it is no JSON; 422, it cannot be read.
    """
    require_json(dict(request.scope["headers"]))
    return parse_json(await request.body())


JsonBody = Annotated[Any, Depends(_read_json)]


def json_request(schema: dict[str, Any]) -> dict[str, Any]:
    """What the OpenAPI document says of such a body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def json_answer(description: str, schema: dict[str, Any], **headers: str) -> dict[str, Any]:
    """What the OpenAPI document says of an answer; headers with their descriptions."""
    shown = {
        name.replace("_", "-"): {"description": text, "schema": {"type": "string"}}
        for name, text in headers.items()
    }
    answer = {"description": description, "content": {"application/json": {"schema": schema}}}
    return answer | ({"headers": shown} if shown else {})


def component(name: str) -> dict[str, Any]:
    """A reference to a schema of the OpenAPI document."""
    return {"$ref": f"#/components/schemas/{name}"}
