"""``POST /predict``: rows in, their predictions out, in the same form."""

from typing import Any

from mlops_for_mle.serving.data_plane import Question
from mlops_for_mle.serving.formats.row_reader import COLUMNS_KEY
from mlops_for_mle.serving.formats.schemas import (
    answer_schema,
    columns_answer_schema,
    columns_schema,
    row_schema,
)
from mlops_for_mle.serving.http.asgi import HotAnswer, HotRequest
from mlops_for_mle.serving.http.bodies import require_json
from mlops_for_mle.serving.http.hot_routes import Asked, HotRoute
from mlops_for_mle.serving.releases.served_release import ServedRelease
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.services import Services

PATH = "/predict"

_DESCRIPTION = """Rows are answered in the form in which they are given:

- one row as an object is answered by an object,
- a list of rows is answered by a list of such objects, in the same order,
- rows by columns are answered by columns; this is the quickest form for many rows.
"""


def predict_route(services: Services) -> HotRoute:
    """The endpoint."""
    plane = services.data_plane

    def ask(request: HotRequest) -> Asked:
        require_json(request.headers)
        served = plane.release()
        rows, form, given = served.reader.read(request.body)
        return Asked(
            Question(served, rows, request.started, request.request_id, given),
            lambda answered: HotAnswer(served.writer.write(answered, form)),
        )

    return HotRoute(PATH, ask, services)


def predict_operation(served: ServedRelease | None) -> dict[str, Any]:
    """What the OpenAPI document says of the route, for the release in service."""
    request: dict[str, Any] = {"description": "What a row holds depends on the release in service"}
    answer: dict[str, Any] = {}
    examples: dict[str, Any] = {}
    if served is not None:
        contract = served.contract
        has_probabilities = served.manifest.model.has_probabilities
        row, one = row_schema(contract), answer_schema(contract, has_probabilities)
        many = {"type": "array", "items": row, "minItems": 1}
        request = {"oneOf": [row, many, columns_schema(contract)]}
        by_columns = columns_answer_schema(contract, has_probabilities)
        answer = {"oneOf": [one, {"type": "array", "items": one}, by_columns]}
        examples = {"examples": _examples(served)}
    return {
        "tags": ["prediction"],
        "summary": "Predict one row or many",
        "description": _DESCRIPTION,
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request, **examples}},
        },
        "responses": {
            "200": {
                "description": "The predictions",
                "content": {"application/json": {"schema": answer}},
            },
            **problem_responses(
                {
                    "400": "The client left in the middle of the body",
                    "408": "The body did not arrive in time",
                    "413": "The body is too large",
                    "415": "The body is not JSON, or compressed by something unknown",
                    "422": "A row does not fit the contract; names every field that is wrong",
                    "429": "The server works on as many requests as it may",
                    "503": "No release is loaded, or the prediction log can keep no more",
                    "504": "The prediction took too long",
                }
            ),
        },
    }


def _examples(served: ServedRelease) -> dict[str, Any]:
    names = served.contract.feature_names
    given = served.manifest.example.rows[:3]
    rows = [dict(zip(names, row, strict=True)) for row in given]
    columns = {name: [row[name] for row in rows] for name in names}
    return {
        "one row": {"value": rows[0]},
        "a list of rows": {"value": rows},
        "columns": {"value": {COLUMNS_KEY: columns}},
    }
