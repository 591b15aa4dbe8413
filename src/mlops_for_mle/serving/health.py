"""Whether the process answers and predicts, and with what: ``/health/…`` and ``/model``.

Health checks use no thread and no database, so that no amount of other work delays them.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from mlops_for_mle.releases.manifest import Deployment
from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.errors import ProblemError, not_ready
from mlops_for_mle.serving.predict import served_by
from mlops_for_mle.serving.releases import DatabaseHealth, LoadFailure, Origin


class Readiness(BaseModel):
    """Whether predictions are answered, by what, and what stands in the way.

    ``failure`` is a newer deployment that could not be loaded, while the old one stays. Without a
    key, where the server asks for one, it is told whether and nothing more.
    """

    status: Literal["ready", "not_ready"] = "ready"
    detail: str | None = None
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
    if services.log.refuses:
        return "The prediction log takes no more: it is full, or cannot be written"
    return None


def require_ready(services: Services, request: Request) -> None:
    """Raise ProblemError 503 where predictions are not answered; a stranger is not told why."""
    reason = obstacle(services)
    if reason is not None:
        is_known = request.scope["state"]["caller"].is_known
        raise not_ready(reason if is_known else "No predictions are answered at the moment")


def router(services: Services) -> APIRouter:
    """The routes."""
    found = APIRouter()

    @found.get("/health/live", tags=["health"], summary="Whether the process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @found.get(
        "/health/ready",
        tags=["health"],
        summary="Whether predictions are answered",
        responses={503: {"model": Readiness, "description": "They are not"}},
    )
    async def ready(request: Request, response: Response) -> Readiness:
        releases, served = services.releases, services.releases.current
        found = Readiness(database=DatabaseHealth(available=releases.database.available))
        try:
            require_ready(services, request)
        except ProblemError as problem:
            found.status, found.detail = "not_ready", problem.detail
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response.headers.update(problem.headers)
        if not request.scope["state"]["caller"].is_known:
            return found
        found.database, found.failure = releases.database, releases.failure
        found.contract = releases.contract
        if served is not None:
            found.release, found.model_version = served.manifest.release, served.manifest.version
            found.loaded_at, found.origin = served.loaded_at, served.origin
            found.deployment = served.deployment
        return found

    @found.get("/model", tags=["model"], summary="The model in service")
    async def model() -> dict[str, Any]:
        served = served_by(services)
        manifest = served.manifest
        facts = ("version", "run_id", "estimator", "precision", "metrics", "has_probabilities")
        of_training = ("calibrated", "threshold", "candidates", "remarks")
        shown = ("created_at", "contract", "snapshot", "split", "parity", "model_sha256")
        return {
            "release": manifest.release,
            "loaded_at": served.loaded_at,
            "origin": served.origin,
            "deployment": served.deployment,
            "model": {"name": manifest.contract.name}
            | {one: getattr(manifest, one) for one in (*facts, *of_training)},
            **{one: getattr(manifest, one) for one in shown},
        }

    return found
