"""``POST /predict``: one row in, its prediction out."""

from typing import Any

from mlops_for_mle.serving.answers import answer_schema
from mlops_for_mle.serving.asgi import HotAnswer, HotRequest, HotRoute, require_json
from mlops_for_mle.serving.row_reader import row_schema
from mlops_for_mle.serving.served_release import ServedRelease
from mlops_for_mle.serving.services import Services

PATH = "/predict"


def predict_route(services: Services) -> HotRoute:
    """The endpoint."""
    plane = services.data_plane

    def answer(request: HotRequest) -> HotAnswer:
        require_json(request.headers)
        served = plane.release()
        rows = served.reader.read_row(request.body)
        answered = plane.predict(served, rows, request.started, request.request_id)
        return HotAnswer(served.writer.one(answered))

    return HotRoute(PATH, "POST", answer, services.settings.max_body_bytes, services.metrics)


def predict_operation(served: ServedRelease | None) -> dict[str, Any]:
    """What the OpenAPI document says of the route, for the release in service."""
    row: dict[str, Any] = {"type": "object"}
    answer: dict[str, Any] = {"type": "object"}
    example: dict[str, Any] = {}
    if served is not None:
        row = row_schema(served.contract)
        answer = answer_schema(served.contract, served.manifest.model.has_probabilities)
        values = served.manifest.example.rows[0]
        example = {"example": dict(zip(served.contract.feature_names, values, strict=True))}
    return {
        "tags": ["prediction"],
        "summary": "Predict one row",
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": row, **example}},
        },
        "responses": {
            "200": {
                "description": "The prediction",
                "content": {"application/json": {"schema": answer}},
            },
            **problem_responses(
                {
                    "413": "The body is too large",
                    "415": "The body is not JSON",
                    "422": "The row does not fit the contract; names every field that is wrong",
                    "503": "No release is loaded",
                }
            ),
        },
    }


def problem_responses(descriptions: dict[str, str]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses that are problem documents."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": description,
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status, description in descriptions.items()
    }
