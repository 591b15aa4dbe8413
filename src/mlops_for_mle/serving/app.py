"""Builds the application from its settings and services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from mlops_for_mle import __version__
from mlops_for_mle.serving.guards.protection import Protection
from mlops_for_mle.serving.http.framework_errors import answer_errors
from mlops_for_mle.serving.http.framework_guard import FrameworkGuard
from mlops_for_mle.serving.http.hot_routes import HotRoutes
from mlops_for_mle.serving.openapi import OpenApiDocument
from mlops_for_mle.serving.routes.feedback import feedback_router
from mlops_for_mle.serving.routes.health import health_router
from mlops_for_mle.serving.routes.invocations import invocations_route, mlflow_router
from mlops_for_mle.serving.routes.model import model_router
from mlops_for_mle.serving.routes.observations import observations_router
from mlops_for_mle.serving.routes.open_inference import infer_routes, open_inference_router
from mlops_for_mle.serving.routes.operation import add_operation
from mlops_for_mle.serving.routes.predict import predict_route
from mlops_for_mle.serving.routes.preview import preview_route
from mlops_for_mle.serving.services import Services, build_services
from mlops_for_mle.serving.settings import ServingSettings


def create_app(
    settings: ServingSettings,
    services: Services | None = None,
    protection: Protection | None = None,
) -> ASGIApp:
    """Make the ASGI application.

    Args:
        settings: What the person has set.
        services: The parts to use; made from the settings when they are not given. They are
            started and stopped with the application.
        protection: What stands in front of all routes, hot ones included; None for nothing.
    """
    services = services or build_services(settings)
    hot_routes = [
        predict_route(services),
        preview_route(services),
        invocations_route(services),
        *infer_routes(services),
    ]
    others = FrameworkGuard(_framework(services), services.gate, settings.max_body_bytes)
    routes = HotRoutes(hot_routes, others)
    return routes if protection is None else protection.around(routes)


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
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    application.include_router(health_router(services))
    application.include_router(model_router(services))
    application.include_router(mlflow_router(services))
    application.include_router(open_inference_router(services))
    application.include_router(observations_router(services))
    application.include_router(feedback_router(services))
    add_operation(application, services)
    application.openapi = OpenApiDocument(application, services)  # type: ignore[method-assign]
    answer_errors(application)
    return application
