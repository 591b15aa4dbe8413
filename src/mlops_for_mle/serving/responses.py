"""How the OpenAPI document describes errors."""

from typing import Any


def problem_responses(descriptions: dict[str, str]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses that are problem documents."""
    return error_responses(descriptions, "Problem", "application/problem+json")


def error_responses(
    descriptions: dict[str, str], schema: str, media_type: str = "application/json"
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses that are errors of a protocol; ``schema`` names one of the components."""
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {
        status: {"description": description, "content": {media_type: {"schema": reference}}}
        for status, description in descriptions.items()
    }
