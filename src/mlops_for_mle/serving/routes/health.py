"""``GET /health/live`` and ``GET /health/ready``."""

from datetime import datetime
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from mlops_for_mle.serving.releases.served_release import FollowedDeployment, LoadFailure, Origin
from mlops_for_mle.serving.services import Services


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class DatabaseHealth(BaseModel):
    """Whether deployments can be followed.

    Attributes:
        available: Whether the database answered last time; None before the first time.
        checked_at: When that was.
        error: Why it did not answer.
    """

    available: bool | None
    checked_at: datetime | None
    error: str | None


class Readiness(BaseModel):
    """Whether predictions are answered, by what, and what stands in the way.

    Attributes:
        status: ``ready`` when a release is loaded and has answered its own example.
        detail: Why it is not ready.
        contract: The contract that is served or waited for.
        release: The release in service.
        model_version: Its version in the registry.
        loaded_at: When it took over in this process.
        origin: Whether it came from the release store or the local cache.
        deployment: The row of the audit trail that put it into service.
        failure: A newer deployment that could not be loaded, while the old one stays.
        database: Whether deployments can be followed.
    """

    status: Literal["ready", "not_ready"]
    detail: str | None
    contract: str | None
    release: str | None = None
    model_version: int | None = None
    loaded_at: datetime | None = None
    origin: Origin | None = None
    deployment: FollowedDeployment | None = None
    failure: LoadFailure | None
    database: DatabaseHealth


def health_router(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="Whether the process answers")
    async def live() -> Liveness:
        return Liveness()

    @router.get(
        "/ready",
        summary="Whether predictions are answered",
        responses={503: {"model": Readiness, "description": "No release is loaded"}},
    )
    async def ready(response: Response) -> Readiness:
        found = readiness(services)
        if found.status != "ready":
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response.headers["Retry-After"] = "1"
        return found

    return router


def readiness(services: Services) -> Readiness:
    """Look at the release in service and at what the follower last saw."""
    served, status = services.slot.current, services.slot.status
    found = Readiness(
        status="not_ready" if served is None else "ready",
        detail=services.slot.obstacle() if served is None else None,
        contract=status.contract,
        failure=status.failure,
        database=DatabaseHealth(
            available=None if status.checked_at is None else status.database_error is None,
            checked_at=status.checked_at,
            error=status.database_error,
        ),
    )
    if served is None:
        return found
    return found.model_copy(
        update={
            "release": served.manifest.release,
            "model_version": served.manifest.model.version,
            "loaded_at": served.loaded_at,
            "origin": served.origin,
            "deployment": served.deployment,
        }
    )
