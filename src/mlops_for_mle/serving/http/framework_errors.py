"""Words the framework's errors as the protocol of the path does."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from mlops_for_mle.serving.http.asgi import HotAnswer, problem_answer
from mlops_for_mle.serving.http.problems import (
    FieldError,
    ProblemError,
    our_failure,
    shown,
    unprocessable,
)
from mlops_for_mle.serving.routes.open_inference import PREFIX, inference_problem

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def answer_errors(application: FastAPI) -> None:
    """Answer every error with a problem document, under ``/v2`` with that protocol's error."""

    @application.exception_handler(ProblemError)
    async def on_problem(request: Request, problem: ProblemError) -> Response:
        return _response(request, problem)

    @application.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.BAD_REQUEST:
            # The framework's only use of it: a body that it can decode no text or JSON from.
            wrong_body = FieldError("", "the body cannot be read", None, "JSON in UTF-8")
            return _response(request, unprocessable([wrong_body]))
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(application, request))
        problem = ProblemError(error.status_code, str(error.detail), headers=headers)
        return _response(request, problem)

    @application.exception_handler(RequestValidationError)
    async def on_wrong_request(request: Request, error: RequestValidationError) -> Response:
        errors = [
            FieldError(
                ".".join(str(part) for part in one["loc"][1:]),
                "is not valid",
                shown(one["input"]),
                one["msg"],
            )
            for one in error.errors()
        ]
        return _response(request, unprocessable(errors))

    @application.exception_handler(Exception)
    async def on_failure(request: Request, _: Exception) -> Response:
        return _response(request, our_failure())


def _methods(application: FastAPI, request: Request) -> list[str]:
    """What the path takes; the framework itself names only the methods of one of its routes."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in application.routes
        )
    ]


def _response(request: Request, problem: ProblemError) -> Response:
    path = request.scope["path"]
    is_inference = path == PREFIX or path.startswith(f"{PREFIX}/")
    answer: HotAnswer = (inference_problem if is_inference else problem_answer)(problem)
    return Response(
        answer.body,
        answer.status,
        headers=problem.headers,
        media_type=answer.content_type.decode(),
    )
