"""``GET /model``: what is in service and where it comes from."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from mlops_for_mle.contract import Contract
from mlops_for_mle.release import ModelFacts, Parity, SnapshotFacts
from mlops_for_mle.serving.releases.served_release import FollowedDeployment, Origin
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.services import Services


class ModelDescription(BaseModel):
    """The facts of the release in service.

    Attributes:
        release: Its name.
        created_at: When it was made.
        loaded_at: When it took over in this process.
        origin: Whether it came from the release store or the local cache.
        deployment: The row of the audit trail that put it into service.
        contract: What requests hold and answers mean.
        model: Where the model comes from, with its metrics.
        snapshot: The rows that it was trained on.
        parity: How the served form compared with the trained one.
        model_sha256: Digest of the served form.
    """

    release: str
    created_at: datetime
    loaded_at: datetime
    origin: Origin
    deployment: FollowedDeployment
    contract: Contract
    model: ModelFacts
    snapshot: SnapshotFacts
    parity: Parity
    model_sha256: str


def model_router(services: Services) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["model"])

    @router.get(
        "/model",
        summary="The model in service",
        responses=problem_responses({"503": "No release is loaded"}),
    )
    async def model() -> ModelDescription:
        served = services.data_plane.release()
        manifest = served.manifest
        return ModelDescription(
            release=manifest.release,
            created_at=manifest.created_at,
            loaded_at=served.loaded_at,
            origin=served.origin,
            deployment=served.deployment,
            contract=manifest.contract,
            model=manifest.model,
            snapshot=manifest.snapshot,
            parity=manifest.parity,
            model_sha256=manifest.model_sha256,
        )

    return router
