"""The routes for people and for the operation of the server, joined."""

from fastapi import APIRouter, FastAPI

from mlops_for_mle.serving.metrics.prometheus import PrometheusMetrics
from mlops_for_mle.serving.routes.deployments import deployments_router
from mlops_for_mle.serving.routes.docs import docs_router
from mlops_for_mle.serving.routes.metrics import CountRequests, metrics_router
from mlops_for_mle.serving.routes.monitoring import monitoring_router
from mlops_for_mle.serving.routes.page import page_router
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.monitoring_store import MonitoringStore, NewestRun
from mlops_for_mle.serving.stores.route_database import RouteDatabase


def add_operation(application: FastAPI, services: Services) -> None:
    """Add the page, its data, the documentation and the metrics."""
    monitoring = MonitoringStore(RouteDatabase())
    routers: list[APIRouter] = [
        deployments_router(services),
        monitoring_router(services, monitoring),
        page_router(),
        docs_router(),
    ]
    if isinstance(services.metrics, PrometheusMetrics):
        newest_run = NewestRun(services, monitoring)
        routers.append(metrics_router(services, services.metrics, newest_run))
    for router in routers:
        application.include_router(router)
    application.add_middleware(CountRequests, metrics=services.metrics)
