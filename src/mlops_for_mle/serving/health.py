"""Whether the process answers, and whether it predicts: ``/health/live`` and ``/health/ready``.

Health checks use no thread and no database, so that no amount of other work delays them.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from mlops_for_mle.releases.manifest import Deployment
from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.errors import ProblemError, not_ready
from mlops_for_mle.serving.releases import LoadFailure, Origin


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class DatabaseHealth(BaseModel):
    """Whether deployments can be followed: None before the first time that it was tried."""

    available: bool | None
    checked_at: datetime | None = None
    error: str | None = None


class Readiness(BaseModel):
    """Whether predictions are answered, by what, and what stands in the way.

    ``failure`` is a newer deployment that could not be loaded, while the old one stays. Without a
    key, where the server asks for one, it is told whether and nothing more.
    """

    status: Literal["ready", "not_ready"]
    detail: str | None
    contract: str | None = None
    release: str | None = None
    model_version: int | None = None
    loaded_at: datetime | None = None
    origin: Origin | None = None
    deployment: Deployment | None = None
    failure: LoadFailure | None = None
    database: DatabaseHealth


def obstacle(services: Services) -> str | None:
    """Why predictions are not answered at the moment; None where they are."""
    if services.releases.current is None:
        return services.releases.obstacle()
    if services.log.is_full and services.settings.spool_when_full == "refuse":
        return "The prediction log takes no more: it is full, or cannot be written"
    return None


def require_ready(services: Services, request: Request) -> None:
    """Refuse where predictions are not answered; a stranger is not told why.

    Raises:
        ProblemError: 503.
    """
    reason = obstacle(services)
    if reason is not None:
        is_known = request.scope["state"]["caller"].is_known
        raise not_ready(reason if is_known else "No predictions are answered at the moment")


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter(prefix="/health", tags=["health"])

    @found.get("/live", summary="Whether the process answers")
    async def live() -> Liveness:
        return Liveness()

    @found.get(
        "/ready",
        summary="Whether predictions are answered",
        responses={503: {"model": Readiness, "description": "They are not"}},
    )
    async def ready(request: Request, response: Response) -> Readiness:
        try:
            require_ready(services, request)
            detail = None
        except ProblemError as problem:
            detail = problem.detail
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response.headers.update(problem.headers)
        status: Literal["ready", "not_ready"] = "ready" if detail is None else "not_ready"
        releases, served = services.releases, services.releases.current
        database = DatabaseHealth(available=releases.is_database_available)
        if not request.scope["state"]["caller"].is_known:
            return Readiness(status=status, detail=detail, database=database)
        database.checked_at = releases.status.checked_at
        database.error = releases.status.database_error
        return Readiness(
            status=status,
            detail=detail,
            contract=releases.status.contract,
            release=served and served.manifest.release,
            model_version=served and served.manifest.version,
            loaded_at=served and served.loaded_at,
            origin=served and served.origin,
            deployment=served and served.deployment,
            failure=releases.status.failure,
            database=database,
        )

    return found
