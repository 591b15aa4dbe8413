"""The OpenAPI document: FastAPI's own routes and the hot routes, for the release in service."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mlops_for_mle.serving.guards.access import describe_security
from mlops_for_mle.serving.routes import invocations, open_inference, predict
from mlops_for_mle.serving.routes.feedback import FEEDBACK_SCHEMA, new_feedback_schema
from mlops_for_mle.serving.routes.open_inference_document import infer_operation
from mlops_for_mle.serving.routes.preview import PATH as PREVIEW_PATH
from mlops_for_mle.serving.routes.preview import preview_operation
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.observation_models import observation_schemas

_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Why a request was not answered (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Where it stands in the request"},
                    "message": {"type": "string", "description": "What is wrong"},
                    "given": {"type": ["string", "null"], "description": "The value, shortened"},
                    "allowed": {"type": "string", "description": "What would be right"},
                },
                "required": ["path", "message", "given", "allowed"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


class OpenApiDocument:
    """Makes the document when it is asked for, so that it describes the contract in service."""

    def __init__(self, application: FastAPI, services: Services) -> None:
        """Describe the routes of an application and its services."""
        self._application = application
        self._services = services

    def __call__(self) -> dict[str, Any]:
        """The document."""
        served = self._services.slot.current
        document = get_openapi(
            title=self._application.title,
            version=self._application.version,
            description=self._application.description,
            routes=self._application.routes,
        )
        document["paths"][PREVIEW_PATH] = {"post": preview_operation(served)}
        paths = document["paths"]
        paths[predict.PATH] = {"post": predict.predict_operation(served)}
        paths[invocations.PATH] = {"post": invocations.invocations_operation(served)}
        for path in open_inference.INFER_PATHS:
            paths[path] = {"post": infer_operation(path, served)}
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM_SCHEMA
        schemas["MlflowError"] = invocations.ERROR_SCHEMA
        schemas["InferenceError"] = open_inference.ERROR_SCHEMA
        contract = served.contract if served is not None else None
        schemas.update(observation_schemas(contract))
        schemas["NewFeedback"] = new_feedback_schema(contract)
        schemas["Feedback"] = FEEDBACK_SCHEMA
        describe_security(document)
        return document
