"""Builds the application: every route is FastAPI's, behind what surrounds all of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPMethod

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp

from mlops_for_mle import __version__
from mlops_for_mle.serving import (
    deployments,
    errors,
    feedback,
    health,
    logs,
    metrics,
    mlflow,
    monitoring,
    observations,
    oip,
    openapi,
    page,
    predict,
)
from mlops_for_mle.serving.context import RequestMiddleware, response
from mlops_for_mle.serving.errors import FieldError, ProblemError
from mlops_for_mle.serving.fast import FastPath
from mlops_for_mle.serving.services import Services

# Each has a function `router(services)`; the document lists their routes in this order.
ROUTERS = (
    *(predict, mlflow, oip, observations, feedback),
    *(deployments, monitoring, health, metrics, page),
)


def create_app(services: Services) -> ASGIApp:
    """Make the application; it starts and stops the services."""
    tracer_provider = logs.make_tracer_provider()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.start()
        yield
        await run_in_threadpool(services.stop)
        if tracer_provider is not None:
            await run_in_threadpool(tracer_provider.shutdown)

    application = FastAPI(
        title="mlops-for-mle",
        version=__version__,
        description="Predictions by the release that was deployed last.",
        lifespan=lifespan,
        responses={"default": openapi.PROBLEM},
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A redirect would take its host from the request.
        redirect_slashes=False,
    )
    for module in ROUTERS:
        application.include_router(module.router(services))
    application.include_router(openapi.router(services, ROUTERS))
    _answer_errors(application)
    middleware = RequestMiddleware(application, services)
    # The fast path has no spans.
    middleware.fast_path = FastPath(services, middleware) if tracer_provider is None else None
    return middleware if tracer_provider is None else logs.traced(middleware, tracer_provider)


def _answer_errors(application: FastAPI) -> None:
    """Word the framework's errors as all others."""

    async def on_error(request: Request, error: Exception) -> Response:
        # What has failed stands in the log only.
        problem = ProblemError(500, "The server has failed; see its log")
        if isinstance(error, ProblemError):
            problem = error
        elif isinstance(error, HTTPException):
            headers = dict(error.headers or {})
            if "Allow" in headers:
                # The framework names only the methods of one of the path's routes.
                scopes = ({**request.scope, "method": method} for method in HTTPMethod)
                headers["Allow"] = ", ".join(
                    scope["method"]
                    for scope in scopes
                    if any(route.matches(scope)[0] is Match.FULL for route in application.routes)
                )
            problem = ProblemError(error.status_code, str(error.detail), headers=headers)
        elif isinstance(error, RequestValidationError):
            faults = []
            for fault in error.errors():
                name, given = str(fault["loc"][-1]), errors.shown(fault["input"])
                if fault["type"] == "missing":  # its input is the whole body
                    faults.append(FieldError(name, "is missing", None, fault["msg"]))
                else:
                    faults.append(FieldError(name, "is not valid", given, fault["msg"]))
            problem = errors.unprocessable(*faults)
        return response(errors.problem_answer(problem, request.scope["path"]))

    for error_type in (ProblemError, HTTPException, RequestValidationError, Exception):
        application.add_exception_handler(error_type, on_error)
