"""Whether the process answers and predicts, and with what: ``/health/…`` and ``/model``.

Health checks use no thread and no database, so that no amount of other work delays them.
"""

from typing import Any, Literal

from fastapi import APIRouter, Response

from mlops_for_mle.contract import Configuration
from mlops_for_mle.releases.manifest import Deployment
from mlops_for_mle.serving.errors import ProblemError, not_ready
from mlops_for_mle.serving.predict import served_by
from mlops_for_mle.serving.prediction_log import LOG_FULL
from mlops_for_mle.serving.releases import DatabaseHealth, LoadFailure, Origin
from mlops_for_mle.serving.request import current_request
from mlops_for_mle.serving.services import Services

_OF_MODEL = (
    *("version", "run_id", "estimator", "precision", "metrics", "has_probabilities"),
    *("calibrated", "threshold", "candidates", "remarks"),
)
_OF_RELEASE = (
    *("created_at", "contract", "training_ranges", "snapshot", "validation_rows"),
    *("parity", "model_sha256"),
)


class Readiness(Configuration):
    """Whether predictions are answered, and by what."""

    status: Literal["ready", "not_ready"]
    detail: str | None
    release: str | None
    origin: Origin | None
    deployment: Deployment | None
    failure: LoadFailure | None
    database: DatabaseHealth


def require_ready(services: Services) -> None:
    """Raise ProblemError 503 where predictions are not answered; a stranger is not told why."""
    if services.releases.current is None:
        reason = services.releases.obstacle()
    elif services.log.refuses:
        reason = LOG_FULL
    else:
        return
    is_known = current_request.get().caller is not None
    raise not_ready(reason if is_known else "No predictions are answered at the moment")


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/health/live", tags=["health"], summary="Whether the process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get(
        "/health/ready",
        tags=["health"],
        summary="Whether predictions are answered",
        description="Who has a key, where the server asks for one, is told by what, and of a "
        "newer deployment that could not be loaded.",
        responses={503: {"description": "They are not", "model": Readiness}},
    )
    async def ready(response: Response) -> Readiness:
        releases, database = services.releases, services.releases.database
        is_known = current_request.get().caller is not None
        served, detail = releases.current if is_known else None, None
        try:
            require_ready(services)
        except ProblemError as problem:
            detail = problem.detail
            response.status_code = 503
            response.headers.update(problem.headers)
        return Readiness(
            status="ready" if detail is None else "not_ready",
            detail=detail,
            release=served and served.manifest.release,
            origin=served and served.origin,
            deployment=served and served.deployment,
            failure=releases.failure if is_known else None,
            database=database if is_known else DatabaseHealth(available=database.available),
        )

    @routes.get("/model", tags=["model"], summary="The model in service")
    async def model() -> dict[str, Any]:
        served = served_by(services)
        manifest = served.manifest
        facts = {name: getattr(manifest, name) for name in _OF_MODEL}
        return {
            "release": manifest.release,
            "origin": served.origin,
            "loaded_at": served.loaded_at,
            "deployment": served.deployment,
            "model": {"name": manifest.contract.name, **facts},
            **{name: getattr(manifest, name) for name in _OF_RELEASE},
        }

    return routes
