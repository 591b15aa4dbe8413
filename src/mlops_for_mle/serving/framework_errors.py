"""Words the framework's errors as the protocol of the path does."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mlops_for_mle.serving.asgi import HotAnswer, problem_answer
from mlops_for_mle.serving.problems import FieldError, ProblemError, shown, unprocessable
from mlops_for_mle.serving.routes.open_inference import PREFIX, inference_problem


def answer_errors(application: FastAPI) -> None:
    """Answer every error with a problem document, under ``/v2`` with that protocol's error."""

    @application.exception_handler(ProblemError)
    async def on_problem(request: Request, problem: ProblemError) -> Response:
        return _response(request, problem)

    @application.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        problem = ProblemError(error.status_code, str(error.detail), headers=error.headers)
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
        return _response(request, ProblemError(500, "The server has failed; see its log"))


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
