"""Builds the application from its settings and services."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from mlops_for_mle import __version__
from mlops_for_mle.serving.asgi import HotRoutes, Middleware
from mlops_for_mle.serving.openapi import OpenApiDocument
from mlops_for_mle.serving.problems import (
    PROBLEM_TYPE,
    FieldError,
    ProblemError,
    problem_document,
    shown,
    unprocessable,
)
from mlops_for_mle.serving.routes.health import health_router
from mlops_for_mle.serving.routes.model import model_router
from mlops_for_mle.serving.routes.predict import predict_route
from mlops_for_mle.serving.services import Services, build_services
from mlops_for_mle.serving.settings import ServingSettings


def create_app(
    settings: ServingSettings,
    services: Services | None = None,
    middleware: Sequence[Middleware] = (),
) -> ASGIApp:
    """Make the ASGI application.

    Args:
        settings: What the person has set.
        services: The parts to use; made from the settings when they are not given. They are
            started and stopped with the application.
        middleware: Wrapped around all routes, hot ones included; the first is the outermost.
    """
    services = services or build_services(settings)
    application: ASGIApp = HotRoutes([predict_route(services)], _framework(services))
    for wrap in reversed(middleware):
        application = wrap(application)
    return application


def _framework(services: Services) -> FastAPI:
    """The ordinary routes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.start()
        try:
            yield
        finally:
            await run_in_threadpool(services.stop)

    application = FastAPI(
        title="mlops-for-mle",
        version=__version__,
        description="Predictions by the release that was deployed last.",
        lifespan=lifespan,
    )
    application.include_router(health_router(services))
    application.include_router(model_router(services))
    application.openapi = OpenApiDocument(application, services)  # type: ignore[method-assign]
    _answer_errors_with_problems(application)
    return application


def _answer_errors_with_problems(application: FastAPI) -> None:
    @application.exception_handler(ProblemError)
    async def on_problem(_: Request, problem: ProblemError) -> JSONResponse:
        return _problem_response(problem)

    @application.exception_handler(HTTPException)
    async def on_http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _problem_response(
            ProblemError(error.status_code, str(error.detail), headers=error.headers)
        )

    @application.exception_handler(RequestValidationError)
    async def on_wrong_request(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            FieldError(
                ".".join(str(part) for part in one["loc"][1:]),
                "is not valid",
                shown(one["input"]),
                one["msg"],
            )
            for one in error.errors()
        ]
        return _problem_response(unprocessable(errors))

    @application.exception_handler(Exception)
    async def on_failure(_: Request, __: Exception) -> JSONResponse:
        return _problem_response(ProblemError(500, "The server has failed; see its log"))


def _problem_response(problem: ProblemError) -> JSONResponse:
    return JSONResponse(
        problem_document(problem.status, problem.detail, problem.errors),
        problem.status,
        headers=problem.headers,
        media_type=PROBLEM_TYPE,
    )
