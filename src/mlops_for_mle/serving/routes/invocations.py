"""MLflow's scoring protocol: ``POST /invocations``, ``GET /ping`` and ``GET /version``.

Status codes and answers are those of ``mlflow models serve`` (MLflow 3); what concerns the server
rather than the model, such as 413 or 429, is added to them.
"""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from mlops_for_mle import __version__
from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import encoding_of
from mlops_for_mle.serving.data_plane import Question
from mlops_for_mle.serving.formats.answers import encode
from mlops_for_mle.serving.formats.schemas import row_schema
from mlops_for_mle.serving.http.asgi import HotAnswer, HotRequest, header_pairs, json_bytes
from mlops_for_mle.serving.http.bodies import media_type, unsupported_type
from mlops_for_mle.serving.http.hot_routes import Asked, HotRoute
from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.recording import AnsweredPredictions
from mlops_for_mle.serving.releases.served_release import ServedRelease
from mlops_for_mle.serving.responses import error_responses, problem_responses
from mlops_for_mle.serving.services import Services

PATH = "/invocations"
ERROR_SCHEMA: dict[str, Any] = {
    "title": "MlflowError",
    "description": "Why a request was not answered, as MLflow words it.",
    "type": "object",
    "properties": {
        "error_code": {"type": "string"},
        "message": {"type": "string", "description": "Where, what, what was found and allowed"},
    },
    "required": ["error_code", "message"],
}

# The names that MLflow gives to statuses; its clients read them.
_ERROR_CODES = {
    HTTPStatus.BAD_REQUEST: "BAD_REQUEST",
    HTTPStatus.TOO_MANY_REQUESTS: "REQUEST_LIMIT_EXCEEDED",
    HTTPStatus.SERVICE_UNAVAILABLE: "TEMPORARILY_UNAVAILABLE",
    HTTPStatus.INTERNAL_SERVER_ERROR: "INTERNAL_ERROR",
    HTTPStatus.GATEWAY_TIMEOUT: "DEADLINE_EXCEEDED",
}


def invocations_route(services: Services) -> HotRoute:
    """The endpoint for predictions."""
    plane = services.data_plane

    def write(answered: AnsweredPredictions) -> HotAnswer:
        values: Any = answered.predictions.values
        target = answered.manifest.contract.target
        if target.has_text_classes:
            values = [target.values[code] for code in values.tolist()]
        return HotAnswer(
            encode({"predictions": values}),
            headers=(
                (b"x-prediction-id", answered.prediction_id.encode()),
                (b"x-model-version", b"%d" % answered.manifest.model.version),
            ),
        )

    def ask(request: HotRequest) -> Asked:
        kind = media_type(request.headers)
        served = plane.release()
        if kind in {None, "application/json"}:
            rows = served.invocation_reader.read_json(request.body)
        elif kind == "text/csv":
            rows = served.invocation_reader.read_csv(request.body)
        else:
            raise unsupported_type(request.headers, "application/json and text/csv, in UTF-8")
        return Asked(
            Question(served, rows.matrix, request.started, request.request_id, rows.given), write
        )

    return HotRoute(PATH, ask, services, mlflow_problem)


def mlflow_problem(problem: ProblemError) -> HotAnswer:
    """A problem as MLflow words it: what is wrong with the rows is 400 there."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    document = {
        "error_code": _ERROR_CODES.get(HTTPStatus(status), HTTPStatus(status).name),
        "message": problem.detail,
    }
    return HotAnswer(json_bytes(document), status=status, headers=header_pairs(problem))


def mlflow_router(services: Services) -> APIRouter:
    """The routes about the server."""
    router = APIRouter(tags=["mlflow"], default_response_class=PlainTextResponse)
    plain: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    }

    def ping() -> str:
        services.data_plane.release()
        return "\n"

    for path in ("/ping", "/health"):
        router.add_api_route(
            path,
            ping,
            summary="Whether predictions are answered",
            operation_id=path.strip("/"),
            responses=plain | problem_responses({"503": "No release is loaded"}),
        )

    @router.get("/version", summary="The version of this server", responses=plain)
    async def version() -> str:
        return __version__

    return router


def invocations_operation(served: ServedRelease | None) -> dict[str, Any]:
    """What the OpenAPI document says of the route, for the release in service."""
    prediction: dict[str, Any] = {}
    request: dict[str, Any] = {"type": "object"}
    examples: dict[str, Any] = {}
    if served is not None:
        kind = "number"
        if served.contract.target.task == "classification":
            kind = "string" if served.contract.target.has_text_classes else "integer"
        prediction = {"type": kind}
        request = _request_schema(served.contract)
        examples = {"examples": _examples(served)}
    answer = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": prediction}},
        "required": ["predictions"],
    }
    headers = {
        "X-Prediction-ID": {
            "schema": {"type": "string", "format": "uuid"},
            "description": "Row i of several is named <id>-<i>, counted from 0",
        },
        "X-Model-Version": {"schema": {"type": "integer"}},
    }
    return {
        "tags": ["mlflow"],
        "summary": "Predict rows by MLflow's scoring protocol",
        "operationId": "invocations",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request, **examples},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "200": {
                "description": "One prediction a row",
                "headers": headers,
                "content": {"application/json": {"schema": answer}},
            },
            **error_responses(
                {
                    "400": "The body is in no form of the protocol or does not fit the contract",
                    "408": "The body did not arrive in time",
                    "413": "The body is too large",
                    "415": "The body is neither JSON nor CSV in UTF-8",
                    "429": "The server works on as many requests as it may",
                    "503": "No release is loaded, or the prediction log can keep no more",
                    "504": "The prediction took too long",
                },
                "MlflowError",
            ),
        },
    }


def _request_schema(contract: Contract) -> dict[str, Any]:
    # Numbers as text and unknown columns are taken too, as MLflow does; nobody should rely on it.
    row = row_schema(contract) | {"additionalProperties": True}
    are_plain = encoding_of(contract).is_identity
    number: dict[str, Any] = {"type": "number"} if are_plain else {}
    names = list(contract.feature_names)
    records = {"type": "array", "items": row, "minItems": 1}
    columns = {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": one, "minItems": 1}
            for name, one in row["properties"].items()
        },
        "required": row["required"],
    }
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}, "examples": [names]},
            "data": {"type": "array", "items": {"type": "array", "items": number}, "minItems": 1},
            "index": {"type": "array"},
        },
        "required": ["columns", "data"],
        "additionalProperties": False,
    }
    forms = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": {"anyOf": [records, columns]},
        "inputs": {"anyOf": [records, columns]},
    }
    return {
        "oneOf": [
            {"type": "object", "properties": {name: form}, "required": [name]}
            for name, form in forms.items()
        ]
    }


def _examples(served: ServedRelease) -> dict[str, Any]:
    names = list(served.contract.feature_names)
    rows = [list(row) for row in served.manifest.example.rows[:3]]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: [row[name] for row in records] for name in names}
    return {
        "dataframe_split": {"value": {"dataframe_split": {"columns": names, "data": rows}}},
        "dataframe_records": {"value": {"dataframe_records": records}},
        "instances": {"value": {"instances": records}},
        "inputs": {"value": {"inputs": columns}},
    }
