"""``POST /feedback``: the true label of a prediction, possibly days late."""

import re
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Response

from mlops_for_mle.contract import Contract
from mlops_for_mle.serving.formats.documents import DuplicateKey
from mlops_for_mle.serving.formats.feature_checks import shown_value
from mlops_for_mle.serving.formats.target_values import (
    describe_target,
    read_target,
    target_code,
    target_schema,
)
from mlops_for_mle.serving.http.problems import FieldError, shown, unprocessable
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.routes.json_bodies import (
    JsonBody,
    component,
    json_answer,
    json_request,
)
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.feedback_store import FeedbackStore, KeptFeedback
from mlops_for_mle.serving.stores.route_database import RouteDatabase

PATH = "/feedback"

_ID_PATTERN = (
    r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(-(0|[1-9][0-9]{0,8}))?$"
)
_PREDICTION_ID = re.compile(_ID_PATTERN)
_ALLOWED_ID = "the prediction_id of an answer, with -<row> where a request had several rows"

_DESCRIPTION = """The label is a class value or the name of a class; for a regression a number.

The same label again changes nothing. Another label for the same prediction is refused, unless
`correction` is true: then it replaces the first one, which is kept as history.

A prediction may be so new that it has not reached the log; its label is accepted (202) and joined
as soon as it has.
"""

FEEDBACK_SCHEMA: dict[str, Any] = {
    "title": "Feedback",
    "type": "object",
    "properties": {
        "prediction_id": {"type": "string"},
        "value": {"type": ["number", "string"], "description": "The class value or number"},
        "label": {"type": ["string", "null"], "description": "The name of the class"},
        "revision": {"type": "integer", "minimum": 1, "description": "1, and 1 more a correction"},
        "created_at": {"type": "string", "format": "date-time"},
        "is_joined": {"type": "boolean", "description": "Whether the prediction is in the log"},
    },
    "required": ["prediction_id", "value", "label", "revision", "created_at", "is_joined"],
}


def feedback_router(services: Services) -> APIRouter:
    """The route."""
    store = FeedbackStore(RouteDatabase())
    router = APIRouter(tags=["feedback"])
    answer = component("Feedback")

    @router.post(
        PATH,
        summary="Tell the true label of a prediction",
        description=_DESCRIPTION,
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        openapi_extra=json_request(component("NewFeedback")),
        responses={
            200: json_answer("The prediction has this label already", answer),
            201: json_answer("The label was kept", answer),
            202: json_answer("The label was kept; its prediction is not in the log yet", answer),
            **problem_responses(
                {
                    "409": "The prediction has another label",
                    "413": "The body is too large",
                    "415": "The body is not JSON",
                    "422": "The body does not fit the contract",
                    "429": "The server works on as many requests as it may",
                    "503": "No release is loaded, or the database does not answer",
                }
            ),
        },
    )
    def feedback(document: JsonBody) -> Response:
        contract = services.data_plane.release().contract
        prediction_id, value, is_correction = _read(contract, document)
        code = target_code(contract.target, value)
        kept = store.keep(contract, prediction_id, code, is_correction)
        return Response(_body(contract, kept), _status(kept), media_type="application/json")

    return router


def new_feedback_schema(contract: Contract | None) -> dict[str, Any]:
    """The component of the OpenAPI document that describes the request."""
    return {
        "title": "NewFeedback",
        "type": "object",
        "properties": {
            "prediction_id": {
                "type": "string",
                "pattern": _ID_PATTERN,
                "description": _ALLOWED_ID,
            },
            "label": target_schema(contract.target) if contract is not None else {},
            "correction": {
                "type": "boolean",
                "default": False,
                "description": "Whether the label may replace another one",
            },
        },
        "required": ["prediction_id", "label"],
        "additionalProperties": False,
    }


def _read(contract: Contract, document: Any) -> tuple[str, int | float | str, bool]:
    """Check the body.

    Raises:
        ProblemError: 422, names every field that is wrong.
    """
    target = contract.target
    allowed = {
        "prediction_id": _ALLOWED_ID,
        "label": describe_target(target),
        "correction": "true or false",
    }
    names = ", ".join(allowed)
    if not isinstance(document, dict):
        wanted = f"an object with {names}"
        raise unprocessable([FieldError("", "is no object", shown(document), wanted)])
    errors = [
        FieldError(name, "is an unknown field", shown_value(value), names)
        for name, value in document.items()
        if name not in allowed
    ]

    def refuse(name: str, message: str) -> None:
        given = shown_value(document[name]) if name in document else None
        errors.append(FieldError(name, message, given, allowed[name]))

    for name in allowed:
        if name not in document and name != "correction":
            refuse(name, "is missing")
        elif isinstance(document.get(name), DuplicateKey):
            refuse(name, "is given more than once")
    if errors:
        raise unprocessable(errors)
    prediction_id = document["prediction_id"]
    if not isinstance(prediction_id, str) or not _PREDICTION_ID.fullmatch(prediction_id):
        refuse("prediction_id", "is no id of a prediction")
    is_correction = document.get("correction", False)
    if not isinstance(is_correction, bool):
        refuse("correction", "is neither true nor false")
    value: int | float | str = 0
    try:
        value = read_target(target, document["label"])
    except ValueError as error:
        refuse("label", str(error))
    if errors:
        raise unprocessable(errors)
    return prediction_id, value, is_correction


def _body(contract: Contract, kept: KeptFeedback) -> bytes:
    value: int | float | str = kept.value
    if contract.target.classes:
        value = contract.target.values.get(int(kept.value), int(kept.value))
    document = {
        "prediction_id": kept.prediction_id,
        "value": value,
        "label": kept.label,
        "revision": kept.revision,
        "created_at": kept.created_at,
        "is_joined": kept.is_joined,
    }
    return msgspec.json.encode(document)


def _status(kept: KeptFeedback) -> HTTPStatus:
    if not kept.is_new:
        return HTTPStatus.OK
    return HTTPStatus.CREATED if kept.is_joined else HTTPStatus.ACCEPTED
