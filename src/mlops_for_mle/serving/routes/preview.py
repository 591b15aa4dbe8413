"""``POST /predict/preview``: what a row would give, for a form that asks while somebody types.

Nothing of it is kept. A prediction log full of half-typed numbers would make drift out of nothing,
so a preview has no ``prediction_id``, and what shall be kept is asked for by ``POST /predict``.
"""

from http import HTTPStatus
from typing import Any

import msgspec

from mlops_for_mle.serving.data_plane import DataPlane, Question
from mlops_for_mle.serving.formats.row_reader import RowsForm
from mlops_for_mle.serving.formats.schemas import answer_schema, row_schema
from mlops_for_mle.serving.http.asgi import HotAnswer, HotRequest
from mlops_for_mle.serving.http.bodies import require_json
from mlops_for_mle.serving.http.hot_routes import Asked, HotRoute
from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.recording import AnsweredPredictions, NoMetrics, NoRecorder
from mlops_for_mle.serving.releases.served_release import ServedRelease
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.services import Services

PATH = "/predict/preview"


def preview_route(services: Services) -> HotRoute:
    """The endpoint."""
    seconds = services.settings.request_timeout_seconds
    plane = DataPlane(services.slot, NoRecorder(), NoMetrics(), timeout_seconds=seconds)

    def ask(request: HotRequest) -> Asked:
        require_json(request.headers)
        served = plane.release()
        rows, form, given = served.reader.read(request.body)
        if form is not RowsForm.ONE:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"{PATH} takes one row as an object, not many"
            )

        def write(answered: AnsweredPredictions) -> HotAnswer:
            document = msgspec.json.decode(served.writer.write(answered, form))
            del document["prediction_id"]
            return HotAnswer(msgspec.json.encode(document))

        return Asked(Question(served, rows, request.started, given=given), write)

    return HotRoute(PATH, ask, services, plane=plane)


def preview_operation(served: ServedRelease | None) -> dict[str, Any]:
    """What the OpenAPI document says of the route, for the release in service."""
    row: dict[str, Any] = {"type": "object"}
    answer: dict[str, Any] = {"type": "object"}
    if served is not None:
        row = row_schema(served.contract)
        whole = answer_schema(served.contract, served.manifest.model.has_probabilities)
        names = [name for name in whole["required"] if name != "prediction_id"]
        properties = {name: whole["properties"][name] for name in names}
        answer = whole | {"properties": properties, "required": names}
    return {
        "tags": ["prediction"],
        "summary": "Predict one row without keeping it",
        "description": "For a form that predicts while somebody types: neither logged nor counted "
        "as a prediction, and without a prediction_id.",
        "operationId": "preview",
        "requestBody": {"required": True, "content": {"application/json": {"schema": row}}},
        "responses": {
            "200": {
                "description": "The prediction",
                "content": {"application/json": {"schema": answer}},
            },
            **problem_responses(
                {
                    "400": "The client left in the middle of the body",
                    "408": "The body did not arrive in time",
                    "413": "The body is too large",
                    "415": "The body is not JSON, or compressed by something unknown",
                    "422": "The row does not fit the contract; names every field that is wrong",
                    "429": "The server works on as many requests as it may",
                    "503": "No release is loaded",
                    "504": "The prediction took too long",
                }
            ),
        },
    }
